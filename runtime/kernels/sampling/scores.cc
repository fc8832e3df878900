// The mask and the changed tokens are applied to blocks in the cache: no other copy of the logits is made.
#include "sampling/scores.h"

#include <algorithm>
#include <cmath>

namespace hearth::sampling {
namespace {

constexpr float kGone = -HUGE_VALF;

bool allows(const Question& q, int64_t token) {
  return !q.mask || (token / 32 < q.words && q.mask[token / 32] >> token % 32 & 1);
}

}  // namespace

const float* block_of(std::span<const float> logits, int64_t block, float* room) {
  const auto rest = logits.subspan(size_t(block * kBlock));
  if (rest.size() >= size_t(kBlock)) return rest.data();
  std::fill(std::copy(rest.begin(), rest.end(), room), room + kBlock, kGone);
  return room;
}

Scores::Scores(const Question& q, const Passes& passes) : q_(q), passes_(passes), best_(-HUGE_VAL), least_(HUGE_VAL) {
  sort_changed();
  scan();
}

bool Scores::none() const { return bad_ > 0 || best_ == -HUGE_VAL; }

double Scores::farthest() const { return (best_ - least_) / q_.temperature; }

void Scores::sort_changed() {
  starts_.assign(size_t(blocks()) + 1, 0);
  for (const int64_t token : q_.changed) ++starts_[token / kBlock + 1];
  for (int64_t block = 0; block < blocks(); ++block) starts_[block + 1] += starts_[block];
  own_.resize(q_.changed.size());
  std::vector<int64_t> next(starts_);
  for (size_t i = 0; i < q_.changed.size(); ++i) {
    const int64_t token = q_.changed[i];
    own_[next[token / kBlock]++] = {token, allows(q_, token) ? q_.scores[i] : -HUGE_VAL};
  }
}

std::span<const Scores::Own> Scores::changed(int64_t block) const {
  return {own_.data() + starts_[block], own_.data() + starts_[block + 1]};
}

const float* Scores::logits(int64_t block, float* room) const { return block_of(q_.logits, block, room); }

const float* Scores::masked(int64_t block, float* room) const {
  const float* all = logits(block, room);
  if (!q_.mask) return all;
  uint32_t words[kWords] = {};
  const int64_t first = block * kWords, count = std::clamp<int64_t>(q_.words - first, 0, kWords);
  std::copy_n(q_.mask + first, count, words);
  passes_.mask(all, words, room);
  return room;
}

// Those that are not changed.
const float* Scores::plain(int64_t block, float* room) const {
  const float* all = masked(block, room);
  if (changed(block).empty()) return all;
  if (all != room) std::copy_n(all, kBlock, room);
  for (const Own& one : changed(block)) room[one.token - block * kBlock] = kGone;
  return room;
}

void Scores::scan() {
  for (int64_t block = 0; block < blocks(); ++block) {
    float room[kBlock];
    const int64_t n = std::min(kBlock, tokens() - block * kBlock);
    const Scan all = passes_.scan(q_.logits.data() + block * kBlock, n);
    const bool as_they_are = !q_.mask && changed(block).empty();
    const Scan left = as_they_are ? all : passes_.scan(plain(block, room), kBlock);
    bad_ += all.bad;
    best_ = std::max(best_, double(left.best));
    least_ = std::min(least_, double(left.least));
  }
  for (const Own& one : own_) {
    if (one.score == -HUGE_VAL) continue;
    best_ = std::max(best_, one.score);
    least_ = std::min(least_, one.score);
  }
}

void Scores::relative(int64_t block, double* x) const {
  float room[kBlock];
  passes_.relative(masked(block, room), best_, q_.temperature, x);
  for (const Own& one : changed(block)) x[one.token - block * kBlock] = (one.score - best_) / q_.temperature;
}

void Scores::sample(double* x) const {
  float some[kBlock];
  for (int64_t i = 0; i < kBlock; ++i) some[i] = std::min(q_.logits[size_t(i * tokens() / kBlock)], float(best_));
  passes_.relative(some, best_, q_.temperature, x);
}

int64_t Scores::first() const {
  for (int64_t block = 0; block < blocks(); ++block) {
    float room[kBlock];
    const float* some = plain(block, room);
    int64_t token = kBlock;
    if (double(passes_.scan(some, kBlock).best) == best_) token = std::find(some, some + kBlock, float(best_)) - some;
    for (const Own& one : changed(block))
      if (one.score == best_) token = std::min(token, one.token - block * kBlock);
    if (token < kBlock) return block * kBlock + token;
  }
  return -1;
}

}  // namespace hearth::sampling
