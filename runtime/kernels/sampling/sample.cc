// A token by the weights of a sieve, a block at a time.
#include "sampling/sample.h"

#include <algorithm>
#include <cmath>

#include "sampling/scores.h"
#include "sampling/sieve.h"
#include "table.h"

namespace hearth {
namespace portable {
extern const sampling::Passes sampling_passes;
}
#if defined(__x86_64__)
namespace avx2 {
extern const sampling::Passes sampling_passes;
}
namespace avx512vnni {
extern const sampling::Passes sampling_passes;
}
#endif
}  // namespace hearth

namespace hearth::sampling {
namespace {

// The highest logits so far, best first, the lower token of equal ones first.
class Ranking {
 public:
  explicit Ranking(size_t count) : count_(count) {}

  void add(std::span<const float> logits, int64_t first) {
    constexpr size_t kStep = 16;
    for (size_t at = 0; count_ > 0 && at < logits.size(); at += kStep) {
      const auto step = logits.subspan(at, std::min(kStep, logits.size() - at));
      float most = -HUGE_VALF;
      for (const float v : step) most = v > most ? v : most;
      if (full() && most <= best_.back().logit) continue;
      for (size_t i = 0; i < step.size(); ++i) add({step[i], first + int64_t(at + i)});
    }
  }

  std::vector<int64_t> tokens() const {
    std::vector<int64_t> all;
    for (const One& one : best_) all.push_back(one.token);
    return all;
  }

 private:
  struct One {
    float logit;
    int64_t token;
  };

  bool full() const { return best_.size() == count_; }
  void add(const One& one) {
    if (full()) {
      if (one.logit <= best_.back().logit) return;
      best_.pop_back();
    }
    const auto better = [](const One& a, const One& b) { return a.logit > b.logit; };
    best_.insert(std::upper_bound(best_.begin(), best_.end(), one, better), one);
  }

  size_t count_;
  std::vector<One> best_;
};

}  // namespace

const Passes& passes_of(Isa isa) {
#if defined(__x86_64__)
  if (isa >= kAvx512Vnni) return avx512vnni::sampling_passes;
  if (isa >= kAvx2) return avx2::sampling_passes;
#endif
  return isa >= kPortable ? portable::sampling_passes : portable::sampling_passes;
}

int64_t draw(const Question& q, uint64_t number, const Passes& passes) {
  const Sieve sieve(q, passes);
  std::vector<int64_t> sums(size_t(sieve.blocks()));
  int64_t w[kBlock];
  int64_t total = 0;
  for (size_t block = 0; block < sums.size(); ++block) total += sums[block] = sieve.weigh(int64_t(block), w);
  auto target = int64_t(static_cast<unsigned __int128>(number) * uint64_t(total) >> 53);
  for (size_t block = 0; block < sums.size(); target -= sums[block++]) {
    if (sums[block] <= target) continue;
    sieve.weigh(int64_t(block), w);
    for (int64_t i = 0; i < kBlock; target -= w[i++])
      if (w[i] > target) return int64_t(block) * kBlock + i;
  }
  return -1;
}

void weigh(const Question& q, const Passes& passes, std::span<int64_t> weights) {
  const Sieve sieve(q, passes);
  for (int64_t block = 0; block < sieve.blocks(); ++block) {
    int64_t w[kBlock];
    sieve.weigh(block, w);
    const auto part = weights.subspan(size_t(block * kBlock));
    std::copy_n(w, std::min(part.size(), size_t(kBlock)), part.begin());
  }
}

int64_t greedy(const Question& q, const Passes& passes) {
  const Scores scores(q, passes);
  return scores.none() ? -1 : scores.first();
}

std::vector<int64_t> best_tokens(std::span<const float> logits, int64_t count) {
  Ranking ranking{size_t(count)};
  ranking.add(logits, 0);
  return ranking.tokens();
}

Ranked ranked(std::span<const float> logits, int64_t count, const Passes& passes) {
  const double best = passes.scan(logits.data(), int64_t(logits.size())).best;
  Ranking ranking{size_t(count)};
  Ranked all{};
  for (size_t at = 0; at < logits.size(); at += kBlock) {
    float room[kBlock];
    double x[kBlock];
    int64_t w[kBlock];
    const float* block = block_of(logits, int64_t(at) / kBlock, room);
    passes.relative(block, best, 1, x);
    all.weight += passes.weigh(x, kBlock, w);
    ranking.add({block, std::min(size_t(kBlock), logits.size() - at)}, int64_t(at));
  }
  all.tokens = ranking.tokens();
  return all;
}

}  // namespace hearth::sampling
