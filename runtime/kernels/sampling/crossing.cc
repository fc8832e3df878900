// Masses are added up in buckets of distance; the bucket of the crossing is cut into buckets again, until few are left.
#include "sampling/crossing.h"

#include <algorithm>
#include <cmath>

namespace hearth::sampling {
namespace {

constexpr int kTables = 4;      // in turn: additions to one place would wait for each other where distances are equal
constexpr double kWidest = 32;  // of all buckets at first: what is farther from the best weighs nothing
constexpr int64_t kFew = 2048;  // sorted where no more are left
constexpr int kLevels = 6;      // each leaves a 512th at best; where that many do not help, all are sorted

struct Histogram {
  int64_t mass[kTables][kBuckets + 8] = {};

  // The bucket in which the sum reaches the bound, which is lessened by those before it; the last where none does.
  int64_t find(int64_t& bound) const {
    for (int64_t b = 0; b < kBuckets - 1; ++b) {
      const int64_t here = of(b);
      if (here >= bound) return b;
      bound -= here;
    }
    return kBuckets - 1;
  }
  int64_t of(int64_t b) const { return mass[0][b] + mass[1][b] + mass[2][b] + mass[3][b]; }
};

// The tables, and the bucket of every x.
Histogram count(const Passes& passes, std::span<const double> x, const int64_t* w, const Range& range,
                uint16_t* buckets) {
  Histogram all;
  int64_t bucket[kBlock];
  for (size_t at = 0; at < x.size(); at += kBlock) {
    passes.buckets(x.data() + at, kBlock, range, bucket);
    for (int64_t i = 0; i < kBlock; i += kTables)
      for (int j = 0; j < kTables; ++j) {
        all.mass[j][bucket[i + j]] += w ? w[at + i + j] : 1;
        buckets[at + i + j] = uint16_t(bucket[i + j]);
      }
  }
  return all;
}

Range range_of(double centre, double low, double high) {
  const double scale = (kBuckets - 1) / (high - low);
  return {centre, low, high, std::isfinite(scale) ? scale : 0};
}

// Those of them that have a mass.
std::span<Mass> gather(std::span<const double> x, const int64_t* w, double centre, std::span<const uint32_t> places,
                       Mass* masses) {
  size_t n = 0;
  for (const uint32_t at : places) {
    masses[n] = {std::fabs(x[at] - centre), w ? w[at] : 1};
    n += masses[n].mass > 0 && masses[n].distance < HUGE_VAL;
  }
  return {masses, n};
}

// By ascending distance, `before` being nearer than all of them.
Crossing walk(std::span<Mass> masses, int64_t before, int64_t bound) {
  if (masses.empty()) return {HUGE_VAL, before, 0, 0};
  std::sort(masses.begin(), masses.end(), [](const Mass& a, const Mass& b) { return a.distance < b.distance; });
  Crossing found{masses[0].distance, before, 0, masses[0].mass};
  int64_t here = 0;  // of those as far as `found`
  for (const Mass& one : masses) {
    if (one.distance != found.distance) {
      if (found.before + here >= bound) break;
      found = {one.distance, found.before + here, 0, one.mass}, here = 0;
    }
    here += one.mass;
    found.ties += 1;
  }
  return found;
}

}  // namespace

Crossing cross(const Passes& passes, std::span<const double> x, const int64_t* w, double centre, double farthest,
               int64_t bound, const Room& room) {
  const auto n = int64_t(x.size());
  Range range = range_of(centre, 0, std::min(farthest, kWidest));
  range.high = HUGE_VAL;  // the last bucket takes all that is farther
  for (int64_t left = bound, level = 1;; ++level) {
    const Histogram all = count(passes, x, w, range, room.buckets);
    const int64_t chosen = all.find(left), most = level < kLevels ? kFew : n;
    const int64_t found = passes.members(room.buckets, n, uint16_t(chosen), most, room.places);
    if (found <= most) return walk(gather(x, w, centre, {room.places, size_t(found)}, room.masses), bound - left, bound);
    const Extent extent = passes.extent(x.data(), n, range, chosen);
    if (extent.low == extent.high) {
      const int64_t each = w ? w[room.places[0]] : 1, ties = all.of(chosen) / std::max<int64_t>(each, 1);
      return {extent.low, bound - left, ties, each};
    }
    range = range_of(centre, extent.low, extent.high);
  }
}

}  // namespace hearth::sampling
