// The step of a crossing is found by the sums; then its few tokens are selected from, or it is cut into steps again.
#include "sampling/ladder.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <functional>

namespace hearth::sampling {
namespace {

constexpr double kWidest = 32;   // of all steps: what is farther from the best weighs nothing
constexpr double kNothing = 31;  // as does what is at least as far as this
constexpr int64_t kFew = 16384;  // selected from where no more are left; another ladder takes about as long
constexpr int kLevels = 6;       // each leaves a 512th at best; where that many do not help, all are selected from

Sums operator+(const Sums& a, const Sums& b) { return {a.mass + b.mass, a.moment + b.moment, a.count + b.count, 0}; }
Sums operator-(const Sums& a, const Sums& b) { return {a.mass - b.mass, a.moment - b.moment, a.count - b.count, 0}; }
Sums of(const Member& one) {
  const int64_t each = one.count == 1 ? one.mass : one.mass / one.count;
  return {one.mass, int64_t(std::rint(double(each) * one.x)) * one.count, one.count, 0};
}

double scale_of(double steps, double width) { return width > 0 && std::isfinite(steps / width) ? steps / width : 0; }

// In even steps.
Range even(const Extent& extent) {
  const double scale = scale_of(kSteps - 1, extent.high - extent.low);
  return {extent.low, extent.high, {extent.high, extent.high}, {scale, 0, 0}};
}

// Half of the steps for nine tenths of a sample, the others for what is nearer and what is farther. A crowd at one
// distance has a step of its own.
Range by_sample(std::span<double> x, double farthest) {
  const double end = std::min(farthest, kWidest);
  const auto distance = [&](size_t rank) {
    std::nth_element(x.begin(), x.begin() + int64_t(rank), x.end(), std::greater());
    return std::clamp(-x[rank], 0.0, end);
  };
  constexpr double kLittle = 1e-15, kLeast = 1e-290;
  const double near = distance(x.size() / 20) * (1 - kLittle);
  const double far = distance(x.size() - 1 - x.size() / 20) * (1 + kLittle) + kLeast;
  constexpr double kPart = (kSteps - 1) / 4.0;
  return {0, DBL_MAX, {near, far},
          {scale_of(kPart, near), scale_of(2 * kPart, far - near), scale_of(kPart, end - far)}};
}

// The distance at which masses, the nearest first, reach the bound; the farthest where they do not.
double select(std::span<Distant> masses, int64_t bound) {
  while (masses.size() > 1) {
    const auto middle = masses.begin() + int64_t(masses.size() / 2);
    std::nth_element(masses.begin(), middle, masses.end(),
                     [](const Distant& a, const Distant& b) { return a.distance < b.distance; });
    int64_t nearer = 0;
    for (auto one = masses.begin(); one != middle; ++one) nearer += one->mass;
    if (nearer >= bound) {
      masses = {masses.begin(), middle};
    } else {
      bound -= nearer;
      masses = {middle, masses.end()};
    }
  }
  return masses.empty() ? HUGE_VAL : masses[0].distance;
}

}  // namespace

Ladder::Ladder(std::span<const double> x, const std::function<void(int64_t)>& fill, std::span<double> sample,
               double farthest, bool weighed, const Passes& passes, Room& room)
    : x_(x), passes_(passes), room_(room), weighed_(weighed), levels_(kLevels), range_(by_sample(sample, farthest)) {
  climb(fill);
}

// One step of another in steps.
Ladder::Ladder(const Ladder& whole, const Extent& extent, Room& room)
    : x_(whole.x_), passes_(whole.passes_), room_(room), weighed_(whole.weighed_), levels_(whole.levels_ - 1),
      range_(even(extent)) {
  climb([](int64_t) {});
}

void Ladder::climb(const std::function<void(int64_t)>& fill) {
  room_.steps.resize(std::max(room_.steps.size(), x_.size()));
  room_.places.resize(std::max(room_.places.size(), x_.size() + 64));
  std::memset(&room_.tables, 0, sizeof room_.tables);
  for (size_t at = 0; at < x_.size(); at += kBlock) {
    int64_t w[kBlock];
    fill(int64_t(at) / kBlock);
    if (weighed_) passes_.weigh(x_.data() + at, kBlock, w);
    const int64_t low =
        passes_.climb(x_.data() + at, weighed_ ? w : nullptr, range_, room_.steps.data() + at, room_.tables);
    lowest_.push_back(uint16_t(low));
  }
  sums_.resize(kSteps);
  for (const auto& table : room_.tables.of)
    for (int step = 0; step < kSteps; ++step) sums_[step] = sums_[step] + table[step];
}

Crossing Ladder::cross(Part part, int64_t bound, const Keeps& keeps) const {
  Sums nearer{};
  for (int64_t step = 0; step <= last_; ++step) {
    if (nearer.*part + sums_[step].*part < bound) {
      nearer = nearer + sums_[step];
      continue;
    }
    if (low_of(step) >= kNothing) break;
    Crossing found = within(step, part, bound - nearer.*part, keeps);
    found.nearer = found.nearer + nearer;
    return found;
  }
  return {HUGE_VAL, nearer, {}};
}

Crossing Ladder::within(int64_t step, Part part, int64_t bound, const Keeps& keeps) const {
  if (sums_[step].count <= kFew) return walk(step, part, bound, keeps);
  const Extent extent = extent_of(step);
  if (extent.low == extent.high) return {extent.low, {}, sums_[step]};
  if (levels_ == 0 || (step == last_ && !whole_)) return walk(step, part, bound, keeps);
  Room room;
  return Ladder(*this, extent, room).cross(part, bound, keeps);
}

Crossing Ladder::walk(int64_t step, Part part, int64_t bound, const Keeps& keeps) const {
  const std::span<const Member> all = members(step, keeps);
  std::vector<Distant>& masses = room_.masses;
  masses.clear();
  for (const Member& one : all) masses.push_back({-one.x, of(one).*part});
  Crossing found{select(masses, bound), {}, {}};
  for (const Member& one : all)
    if (-one.x < found.distance) found.nearer = found.nearer + of(one);
    else if (-one.x == found.distance) found.ties = found.ties + of(one);
  return found;
}

// Those of a step where all are at one distance: some number of tokens like the first.
std::span<const Member> Ladder::crowd(int64_t step, double x, const Keeps& keeps) const {
  const Sums& sums = sums_[step];
  std::vector<Member>& all = room_.members;
  if (sums.count > 0 && keeps({room_.places[0], x, sums.mass / sums.count}))
    all.push_back({room_.places[0], x, sums.mass, sums.count});
  return all;
}

Extent Ladder::extent_of(int64_t step) const {
  return passes_.extent(x_.data(), room_.steps.data(), int64_t(x_.size()), step);
}

std::span<const Member> Ladder::members(int64_t step, const Keeps& keeps) const {
  const int64_t found = passes_.members(room_.steps.data(), int64_t(x_.size()), step, room_.places.data());
  std::vector<Member>& all = room_.members;
  all.clear();
  if (found > kFew) {
    const Extent extent = extent_of(step);
    if (extent.low == extent.high) return crowd(step, -extent.low, keeps);
  }
  for (int64_t at = 0; at < found; at += kBlock) {
    const int64_t n = std::min(kBlock, found - at);
    double x[kBlock];
    int64_t w[kBlock] = {};
    for (int64_t i = 0; i < n; ++i) x[i] = x_[room_.places[at + i]];
    std::fill(x + n, x + kBlock, -HUGE_VAL);
    if (weighed_) passes_.weigh(x, (n + 63) / 64 * 64, w);
    for (int64_t i = 0; i < n; ++i)
      if (const Member one{room_.places[at + i], x[i], w[i]}; keeps(one)) all.push_back(one);
  }
  return all;
}

void Ladder::end_at(const Crossing& found, int64_t ties) {
  if (found.distance == HUGE_VAL) return;
  const int64_t each = found.ties.mass / found.ties.count, moment = found.ties.moment / found.ties.count;
  Sums kept = found.nearer + Sums{each * ties, moment * ties, ties, 0};
  last_ = step_of(found.distance);
  for (int64_t step = 0; step < last_; ++step) kept = kept - sums_[step];
  sums_[last_] = kept;
  whole_ = false;
}

void Ladder::thin(double low, double high, const Keeps& keeps) {
  const int64_t first = step_of(low), end = std::min(step_of(high), last_);
  for (int64_t step = first; step <= end; ++step) {
    Sums kept{};  // a crowd is counted by what was kept so far
    for (const Member& one : members(step, keeps)) kept = kept + of(one);
    sums_[step] = kept;
    whole_ = false;
  }
  last_ = end;
}

Sums Ladder::sums() const {
  Sums all{};
  for (int64_t step = 0; step <= last_; ++step) all = all + sums_[step];
  return all;
}

double Ladder::reach(double centre, int64_t bound, const Keeps& keeps) const {
  struct Reach {
    int64_t step;
    double least, most;  // |x - centre| of its tokens
  };
  std::vector<Reach> reaches;
  std::vector<Distant> least, most;
  for (int64_t step = 0; step <= last_; ++step) {
    if (sums_[step].mass == 0) continue;
    const double low = low_of(step) + centre, high = high_of(step) + centre;
    reaches.push_back({step, std::max({low, -high, 0.0}), std::max(high, -low)});
    least.push_back({reaches.back().least, sums_[step].mass});
    most.push_back({reaches.back().most, sums_[step].mass});
  }
  // What is nearer than `begin` is within the distance looked for, what is farther than `end` is not.
  const double begin = select(least, bound), end = select(most, bound);
  std::vector<Distant>& masses = room_.masses;
  masses.clear();
  for (const Reach& one : reaches) {
    if (one.least > end) continue;
    if (one.most < begin) {
      bound -= sums_[one.step].mass;
      continue;
    }
    for (const Member& member : members(one.step, keeps))
      masses.push_back({std::fabs(member.x - centre), member.mass});
  }
  return select(masses, bound);
}

double Ladder::highest(double distance, const Keeps& keeps) const {
  double best = -HUGE_VAL;
  for (int64_t step = step_of(distance); step <= last_ && best == -HUGE_VAL; ++step) {
    if (sums_[step].count == 0) continue;
    for (const Member& one : members(step, keeps)) best = std::max(best, one.x);
  }
  return best;
}

int64_t Ladder::step_of(double distance) const {
  return int64_t(std::rint(std::max(place_of(distance, range_), 0.0)));
}

// The distance at a place between steps; infinite beyond the last.
double Ladder::distance_at(double place) const {
  const double begins[] = {range_.low, range_.bends[0], range_.bends[1]};
  const double ends[] = {range_.bends[0], range_.bends[1], HUGE_VAL};
  for (int part = 0; part < 3; ++part) {
    const double scale = range_.scale[part], steps = scale > 0 ? (ends[part] - begins[part]) * scale : 0;
    if (place < steps) return begins[part] + std::max(place, 0.0) / scale;
    place -= steps;
  }
  return HUGE_VAL;
}

// Widened by a little: a step is found by rounded products.
double Ladder::low_of(int64_t step) const {
  const double low = distance_at(double(step) - 0.53);
  return low < HUGE_VAL ? low : range_.low;
}

double Ladder::high_of(int64_t step) const {
  return step < kSteps - 1 ? distance_at(double(step) + 0.53) : HUGE_VAL;
}

}  // namespace hearth::sampling
