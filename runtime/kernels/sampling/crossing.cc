// Masses are added up in buckets of distance; the bucket of the crossing is cut into buckets again, until few are left.
//
// Four tables in turn: additions to one place would wait for each other where distances are equal.
#include "sampling/crossing.h"

#include <algorithm>
#include <cmath>

namespace hearth::sampling {
namespace {

constexpr int kTables = 4;
constexpr double kWidth = 32;     // of all buckets at first: what is farther from the best weighs nothing
constexpr int64_t kFew = 256;     // sorted where no more are left

struct Histogram {
  int64_t mass[kTables][kBuckets] = {};

  // The bucket in which the sum reaches the bound, which is lessened by those before it.
  int64_t find(int64_t& bound) const {
    for (int64_t b = 0; b < kBuckets - 1; ++b) {
      const int64_t here = mass[0][b] + mass[1][b] + mass[2][b] + mass[3][b];
      if (here >= bound) return b;
      bound -= here;
    }
    return kBuckets - 1;
  }
};

Histogram count(const Passes& passes, std::span<const double> x, const int64_t* w, double centre, double scale) {
  Histogram all;
  int64_t bucket[kBlock];
  for (size_t at = 0; at < x.size(); at += kBlock) {
    passes.buckets(x.data() + at, kBlock, centre, 0, scale, bucket);
    if (w) {
      for (int64_t i = 0; i < kBlock; i += kTables)
        for (int j = 0; j < kTables; ++j) all.mass[j][bucket[i + j]] += w[at + i + j];
    } else {
      for (int64_t i = 0; i < kBlock; i += kTables)
        for (int j = 0; j < kTables; ++j) all.mass[j][bucket[i + j]] += 1;
    }
  }
  return all;
}

std::span<Mass> gather(const Passes& passes, std::span<const double> x, const int64_t* w, double centre,
                       double scale, int64_t chosen, std::span<Mass> room) {
  int64_t bucket[kBlock], n = 0;
  for (size_t at = 0; at < x.size(); at += kBlock) {
    passes.buckets(x.data() + at, kBlock, centre, 0, scale, bucket);
    for (int64_t i = 0; i < kBlock; ++i) {
      if (bucket[i] != chosen) continue;
      const Mass one{std::fabs(x[at + i] - centre), w ? w[at + i] : 1};
      room[n] = one;
      n += one.mass > 0 && one.distance < HUGE_VAL;
    }
  }
  return room.first(n);
}

bool nearer(const Mass& a, const Mass& b) { return a.distance < b.distance; }

// The bucket of one: any monotone function does, as long as the ends differ.
int64_t place(const Mass& one, double low, double scale) {
  return std::min<int64_t>(int64_t((one.distance - low) * scale), kBuckets - 1);
}

// Those of the bucket of the crossing alone; all where that is no use.
std::span<Mass> refine(std::span<Mass> masses, int64_t& bound) {
  const auto [low, high] = std::minmax_element(masses.begin(), masses.end(), nearer);
  const double from = low->distance, scale = (kBuckets - 1) / (high->distance - from);
  if (!std::isfinite(scale) || scale == 0) return masses;
  Histogram all;
  int64_t turn = 0;
  for (const Mass& one : masses) all.mass[turn++ % kTables][place(one, from, scale)] += one.mass;
  const int64_t chosen = all.find(bound);
  const auto end = std::remove_if(masses.begin(), masses.end(),
                                  [&](const Mass& one) { return place(one, from, scale) != chosen; });
  return masses.first(end - masses.begin());
}

}  // namespace

Crossing cross(const Passes& passes, std::span<const double> x, const int64_t* w, double centre, int64_t bound,
               std::span<Mass> room) {
  constexpr double scale = (kBuckets - 1) / kWidth;
  const int64_t asked = bound, chosen = count(passes, x, w, centre, scale).find(bound);
  std::span<Mass> masses = gather(passes, x, w, centre, scale, chosen, room);
  for (size_t last = masses.size() + 1; int64_t(masses.size()) > kFew && masses.size() < last;) {
    last = masses.size();
    masses = refine(masses, bound);
  }
  if (masses.empty()) return {HUGE_VAL, asked - bound, 0};
  if (!std::all_of(masses.begin(), masses.end(), [&](const Mass& m) { return m.distance == masses[0].distance; }))
    std::sort(masses.begin(), masses.end(), nearer);
  Crossing found{masses[0].distance, asked - bound, 0};
  int64_t here = 0;  // of those as far as `found`
  for (const Mass& one : masses) {
    if (one.distance != found.distance) {
      if (found.before + here >= asked) break;
      found = {one.distance, found.before + here, 0}, here = 0;
    }
    here += one.mass;
    found.ties += 1;
  }
  return found;
}

}  // namespace hearth::sampling
