// Top-k, top-p, min-p and typical-p as an interval of x, found by the sums of one ladder.
#include "sampling/sieve.h"

#include <algorithm>
#include <cmath>

namespace hearth::sampling {
namespace {

constexpr Interval kEverything{-HUGE_VAL, 0, HUGE_VAL};
constexpr double kOne = double(int64_t{1} << kOneBits);

// Of one thread.
struct Workspace {
  std::vector<double> x;
  Room room;
};

Workspace& workspace() {
  thread_local Workspace mine;
  return mine;
}

int64_t reached(double share, int64_t total) {
  return std::max<int64_t>(int64_t(std::ceil(share * double(total))), 1);
}

}  // namespace

Sieve::Sieve(const Question& q, const Passes& passes)
    : passes_(passes), scores_(q, passes), interval_(kEverything) {
  if (scores_.none()) return;
  const bool weighed = q.top_p < 1 || q.typical_p < 1;
  if (q.top_k > 0 || weighed) climb(weighed);
  if (q.top_k > 0) top_k(q.top_k);
  if (q.top_p < 1) top_p(q.top_p);
  if (q.min_p > 0) min_p(q.min_p);
  if (q.typical_p < 1) typical_p(q.typical_p);
}

int64_t Sieve::weigh(int64_t block, int64_t* w) const {
  if (ladder_ && !ladder_->reaches(block)) {
    std::fill_n(w, kBlock, 0);
    return 0;
  }
  double y[kBlock];
  if (light_ == 0) {
    keep(block, best_, y);
    return passes_.weigh(y, kBlock, w);
  }
  keep(block, 0, y);
  passes_.weigh(y, kBlock, w);
  const int64_t sum = passes_.drop_light(y, w, light_);
  if (best_ == 0) return sum;
  passes_.cut(y, kEverything, best_, y);
  return passes_.weigh(y, kBlock, w);
}

void Sieve::climb(bool weighed) {
  Workspace& work = workspace();
  const auto n = size_t(scores_.blocks() * kBlock);
  if (work.x.size() < n) work.x.resize(n);
  double* x = work.x.data();
  const auto fill = [&](int64_t block) { scores_.relative(block, x + block * kBlock); };
  double sample[kBlock];
  scores_.sample(sample);
  ladder_.emplace(std::span<const double>(x, n), fill, sample, scores_.farthest(), weighed, passes_, work.room);
  x_ = x;
}

void Sieve::top_k(int64_t count) {
  const Crossing found = ladder_->cross(&Sums::count, count, keeps());
  end_at(found, found.ties.count);
}

// Of the tokens as good as the last of the nucleus those of the highest ids go, where not all are needed.
void Sieve::top_p(double share) {
  const int64_t bound = reached(share, ladder_->sums().mass);
  const Crossing found = ladder_->cross(&Sums::mass, bound, keeps());
  int64_t needed = found.ties.count;
  if (found.ties.mass > 0) {
    const int64_t each = found.ties.mass / found.ties.count;
    needed = std::min(needed, (bound - found.nearer.mass + each - 1) / each);
  }
  end_at(found, needed);
  if (needed < found.ties.count) last_tie_ = tie(found.distance, needed);
}

void Sieve::min_p(double share) {
  constexpr double kMargin = 1e-6;
  const auto light = int64_t(std::ceil(share * kOne));
  const double distance = kOneBits * M_LN2 - std::log(double(light) - 0.5);  // about where weights are that light
  if (std::min(scores_.farthest(), -interval_.least) < distance - kMargin) return;
  light_ = light;
  if (ladder_) ladder_->thin(distance - kMargin, distance + kMargin, keeps());
}

void Sieve::typical_p(double share) {
  const Sums sums = ladder_->sums();
  const double mean = double(sums.moment) / double(sums.mass);
  const double most = ladder_->reach(mean, reached(share, sums.mass), keeps());
  interval_.centre = mean;
  interval_.most = most;
  // The best may go: weights are relative to the best that is left. What weighed nothing was farther from the mean
  // than the best (the mean is above -16 for up to 2^20 tokens), so it stays away.
  const double nearest = -mean - most;
  if (nearest > 0) best_ = ladder_->highest(nearest * (1 - 1e-12), keeps());
}

Keeps Sieve::keeps() const {
  return [this](const Member& one) {
    return one.x >= interval_.least && std::fabs(one.x - interval_.centre) <= interval_.most && one.mass >= light_ &&
           !(one.x == interval_.least && one.place > last_tie_);
  };
}

void Sieve::end_at(const Crossing& found, int64_t ties) {
  ladder_->end_at(found, ties);
  interval_.least = std::max(interval_.least, -found.distance);
}

// Number `count` of the tokens at a distance.
int64_t Sieve::tie(double distance, int64_t count) const {
  const double* at = x_;
  for (;; at += kBlock) {
    const int64_t here = std::count(at, at + kBlock, -distance);
    if (here >= count) break;
    count -= here;
  }
  for (; count > 0; ++at) count -= *at == -distance;
  return at - x_ - 1;
}

// y = x - by of what the interval keeps of a block, else -inf.
void Sieve::keep(int64_t block, double by, double* y) const {
  if (!ladder_) {
    scores_.relative(block, y);
    return;
  }
  Interval interval = interval_;
  const int64_t tied = last_tie_ + 1 - block * kBlock;  // ties before this place are kept
  if (tied <= 0) interval.least = std::nextafter(interval.least, 1);
  passes_.cut(x_ + block * kBlock, interval, by, y);
  for (int64_t i = tied; 0 < tied && i < kBlock; ++i)
    if (x_[block * kBlock + i] == interval.least) y[i] = -HUGE_VAL;
}

}  // namespace hearth::sampling
