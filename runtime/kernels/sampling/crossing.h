// Where a sum of masses, taken by ascending distance |x - centre|, reaches a bound.
#pragma once

#include <cstdint>
#include <span>

#include "sampling/passes.h"

namespace hearth::sampling {

struct Mass {
  double distance;
  int64_t mass;
};

struct Crossing {
  double distance;  // the smallest d such that all within d make up the bound
  int64_t before;   // the masses nearer than d
  int64_t ties;     // how many are as far as d
  int64_t each;     // the mass of one of them
};

// Room for as many as there are x.
struct Room {
  uint16_t* buckets;
  uint32_t* places;
  Mass* masses;
};

// w null: each x above -inf has the mass 1. `farthest` is about how far they are. The bound
// is above 0; where all together do not reach it, d is that of the farthest, or infinite.
Crossing cross(const Passes&, std::span<const double> x, const int64_t* w, double centre, double farthest,
               int64_t bound, const Room&);

}  // namespace hearth::sampling
