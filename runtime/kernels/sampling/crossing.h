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
};

// w null: each x above -inf has the mass 1. The bound is above 0; where all together do not reach it, d is that of the
// farthest, or infinite. `room` holds as many as there are x.
Crossing cross(const Passes&, std::span<const double> x, const int64_t* w, double centre, int64_t bound,
               std::span<Mass> room);

}  // namespace hearth::sampling
