// The steps of a draw: relative scores, top-k, weights, top-p and min-p, typical-p; what goes gets the weight 0.
#include "sampling/sample.h"

#include <algorithm>
#include <cmath>

#include "executor/refuse.h"
#include "sampling/crossing.h"
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

constexpr double kOne = double(int64_t{1} << kOneBits);
constexpr float kGone = -HUGE_VALF;

// Of one thread, kept from call to call: pages that are new would cost as much as the passes over them.
struct Workspace {
  std::vector<float> logits;
  std::vector<double> x;
  std::vector<int64_t> w;
  std::vector<uint16_t> buckets;
  std::vector<uint32_t> places;
  std::vector<Mass> masses;

  void grow(size_t n) {
    if (x.size() >= n) return;
    logits.resize(n), x.resize(n), w.resize(n), buckets.resize(n), places.resize(n), masses.resize(n);
  }
};

Workspace& workspace() {
  thread_local Workspace mine;
  return mine;
}

bool allows(const Question& q, int64_t token) {
  return !q.mask || (token / 32 < q.words && q.mask[token / 32] >> token % 32 & 1);
}

// The logits of tokens that may come and are not changed, -inf for others.
void mask_word(uint32_t bits, const float* logits, int64_t n, float* to) {
  if (bits == 0) std::fill_n(to, n, kGone);
  else if (bits == ~uint32_t{0}) std::copy_n(logits, n, to);
  else
    for (int64_t i = 0; i < n; ++i) to[i] = bits >> i & 1 ? logits[i] : kGone;
}

const float* plain_logits(const Question& q, Workspace& work) {
  if (!q.mask && q.changed.empty()) return q.logits.data();
  const int64_t n = int64_t(q.logits.size());
  if (!q.mask) std::copy_n(q.logits.data(), n, work.logits.data());
  else
    for (int64_t at = 0; at < n; at += 32)
      mask_word(at / 32 < q.words ? q.mask[at / 32] : 0, q.logits.data() + at, std::min<int64_t>(32, n - at),
                work.logits.data() + at);
  for (const int64_t token : q.changed) work.logits[token] = kGone;
  return work.logits.data();
}

// The best score of all.
double best_of(const Question& q, const float* plain, const Passes& passes) {
  double best = passes.scan(plain, int64_t(q.logits.size())).best;
  for (size_t i = 0; i < q.changed.size(); ++i)
    if (allows(q, q.changed[i])) best = std::max(best, q.scores[i]);
  return best;
}

// A whole block from `at`; the last one in `room`, filled up with -inf.
const float* block_of(const float* logits, int64_t n, int64_t at, float* room) {
  if (at + kBlock <= n) return logits + at;
  std::fill(std::copy(logits + at, logits + n, room), room + kBlock, kGone);
  return room;
}

// x of every token, in whole blocks; the largest distance of one to the best.
double relate(const Question& q, const float* plain, double best, const Passes& passes, std::span<double> x) {
  const int64_t n = int64_t(q.logits.size());
  double low = 0;
  for (int64_t at = 0; at < n; at += kBlock) {
    float room[kBlock];
    low = std::min(low, passes.relative(block_of(plain, n, at, room), best, q.temperature, x.data() + at));
  }
  for (size_t i = 0; i < q.changed.size(); ++i) {
    const double own = (q.scores[i] - best) / q.temperature;
    if (!allows(q, q.changed[i]) || own == -HUGE_VAL) continue;
    x[q.changed[i]] = own;
    low = std::min(low, own);
  }
  return -low;
}

int64_t reached(double share, int64_t total) {
  return std::max<int64_t>(int64_t(std::ceil(share * double(total))), 1);
}

// Of the tokens as good as the last of the nucleus those of the highest ids, where not all are needed.
Sums drop_ties(std::span<const double> x, std::span<int64_t> w, const Crossing& found, int64_t bound, Sums sums) {
  int64_t left = bound - found.before;
  if ((found.ties - 1) * found.each < left) return sums;
  for (size_t i = 0; i < x.size(); ++i) {
    if (-x[i] != found.distance || w[i] == 0) continue;
    if (left <= 0) {
      sums.w -= w[i];
      sums.wx -= int64_t(std::rint(double(w[i]) * x[i]));
      w[i] = 0;
    } else {
      left -= w[i];
    }
  }
  return sums;
}

}  // namespace

const Passes& passes_of(Isa isa) {
#if defined(__x86_64__)
  if (isa >= kAvx512Vnni) return avx512vnni::sampling_passes;
  if (isa >= kAvx2) return avx2::sampling_passes;
#endif
  return isa >= kPortable ? portable::sampling_passes : portable::sampling_passes;
}

Weighed weigh(const Question& q, const Passes& passes) {
  Workspace& work = workspace();
  const auto n = size_t(align_up(int64_t(q.logits.size()), kBlock));
  work.grow(n);
  const std::span<double> x(work.x.data(), n);
  const std::span<int64_t> w(work.w.data(), n);
  const Room room{work.buckets.data(), work.places.data(), work.masses.data()};

  const float* plain = plain_logits(q, work);
  const double best = best_of(q, plain, passes);
  if (best == -HUGE_VAL) return {w.first(0), 0};
  double farthest = relate(q, plain, best, passes, x);
  if (q.top_k > 0) {
    const double most = cross(passes, x, nullptr, 0, farthest, q.top_k, room).distance;
    passes.cut(x.data(), n, most);
    farthest = std::min(farthest, most);
  }
  Sums sums{passes.weigh(x.data(), n, w.data()), 0, 0};

  const int64_t least = q.min_p > 0 ? int64_t(std::ceil(q.min_p * kOne)) : 1;
  if (q.top_p < 1) {
    const int64_t bound = reached(q.top_p, sums.w);
    const Crossing found = cross(passes, x, w.data(), 0, farthest, bound, room);
    sums = passes.keep(x.data(), w.data(), n, 0, found.distance, least);
    sums = drop_ties(x, w, found, bound, sums);
    farthest = found.distance;
  } else if (q.min_p > 0 || q.typical_p < 1) {
    sums = passes.keep(x.data(), w.data(), n, 0, HUGE_VAL, least);
  }
  if (q.typical_p < 1) {
    const double mean = double(sums.wx) / double(sums.w), end = std::max(-mean, mean + farthest);
    const Crossing found = cross(passes, x, w.data(), mean, end, reached(q.typical_p, sums.w), room);
    sums = passes.keep(x.data(), w.data(), n, mean, found.distance, 1);
    if (-mean > found.distance) {
      // The best was dropped: weights are relative to the best that is left. What weighed nothing was farther from
      // the mean than the best (the mean is above -16 for up to 2^20 tokens), so it stays away.
      passes.shift(x.data(), w.data(), n, sums.best);
      sums.w = passes.weigh(x.data(), n, w.data());
    }
  }
  return {w, sums.w};
}

int64_t draw(const Weighed& weighed, uint64_t number) {
  constexpr size_t kStep = 64;
  const auto target = int64_t(static_cast<unsigned __int128>(number) * uint64_t(weighed.total) >> 53);
  const std::span<const int64_t> w = weighed.weights;
  int64_t before = 0;
  for (size_t at = 0; at < w.size(); at += kStep) {
    int64_t here = 0;
    for (size_t i = 0; i < kStep; ++i) here += w[at + i];
    if (before + here <= target) {
      before += here;
      continue;
    }
    for (size_t i = at;; ++i)
      if ((before += w[i]) > target) return int64_t(i);
  }
  return -1;
}

int64_t greedy(const Question& q, const Passes& passes) {
  Workspace& work = workspace();
  work.grow(size_t(align_up(int64_t(q.logits.size()), kBlock)));
  const float* plain = plain_logits(q, work);
  const double best = best_of(q, plain, passes);
  if (best == -HUGE_VAL) return -1;
  const int64_t n = int64_t(q.logits.size());
  int64_t token = std::find(plain, plain + n, best) - plain;
  for (size_t i = 0; i < q.changed.size(); ++i)
    if (q.scores[i] == best && allows(q, q.changed[i])) token = std::min(token, q.changed[i]);
  return token;
}

int64_t total_weight(std::span<const float> logits, const Passes& passes) {
  const double best = passes.scan(logits.data(), int64_t(logits.size())).best;
  int64_t total = 0;
  double x[kBlock];
  int64_t w[kBlock];
  for (size_t at = 0; at < logits.size(); at += kBlock) {
    float room[kBlock];
    passes.relative(block_of(logits.data(), int64_t(logits.size()), int64_t(at), room), best, 1, x);
    total += passes.weigh(x, kBlock, w);
  }
  return total;
}

std::vector<int64_t> best_tokens(std::span<const float> logits, int64_t count) {
  constexpr size_t kStep = 16;
  std::vector<int64_t> best;
  const auto better = [&](int64_t a, int64_t b) { return logits[a] > logits[b]; };
  for (size_t at = 0; count > 0 && at < logits.size(); at += kStep) {
    const auto step = logits.subspan(at, std::min(kStep, logits.size() - at));
    float most = kGone;
    for (const float v : step) most = v > most ? v : most;
    if (int64_t(best.size()) == count && most <= logits[best.back()]) continue;
    for (size_t i = at; i < at + step.size(); ++i) {
      if (int64_t(best.size()) == count) {
        if (logits[i] <= logits[best.back()]) continue;
        best.pop_back();
      }
      best.insert(std::upper_bound(best.begin(), best.end(), int64_t(i), better), int64_t(i));
    }
  }
  return best;
}

}  // namespace hearth::sampling
