// Tokens by their distance -x from the best, in steps with sums: where a share of them ends, without sorting them.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "sampling/passes.h"

namespace hearth::sampling {

// What is summed up: weights, or how many tokens there are.
using Part = int64_t Sums::*;

// Where a sum, taken by ascending distance, reaches a bound.
struct Crossing {
  double distance;  // the smallest d such that all within d make up the bound; infinite where all do not
  Sums nearer;      // of the tokens nearer than d
  Sums ties;        // of those as far as d, which all weigh the same
};

// A token; or several that are alike, with the place of the first and their mass together.
struct Member {
  uint32_t place;
  double x;
  int64_t mass;
  int64_t count = 1;
};
using Keeps = std::function<bool(const Member&)>;

struct Distant {
  double distance;
  int64_t mass;
};

// Kept from call to call: pages that are new would cost as much as the passes over them.
struct Room {
  std::vector<uint16_t> steps;
  std::vector<uint32_t> places;
  std::vector<Member> members;
  std::vector<Distant> masses;
  Tables tables;
};

class Ladder {
 public:
  // `fill(block)` makes a block of x[n] just before it is looked at: whole blocks, -inf where a token must not come.
  // `weighed`: masses are wanted, too. The room is in use as long as the ladder is.
  // Steps are laid by a `sample` of x, which is put in another order.
  Ladder(std::span<const double> x, const std::function<void(int64_t)>& fill, std::span<double> sample, double farthest,
         bool weighed, const Passes&, Room&);

  // Where a step is cut by what was forgotten, only tokens that `keeps` count.
  Crossing cross(Part, int64_t bound, const Keeps& keeps) const;
  // By ascending |x - centre|: the smallest distance within which all make up the mass `bound`.
  double reach(double centre, int64_t bound, const Keeps& keeps) const;
  // The highest x of a token that is kept, where none is nearer than `distance`.
  double highest(double distance, const Keeps& keeps) const;
  // Forget what is farther than a crossing, and of its ties all but so many.
  void end_at(const Crossing&, int64_t ties);
  // Forget what is farther than `high`, and what is not kept from `low` on.
  void thin(double low, double high, const Keeps& keeps);
  Sums sums() const;
  // Whether a block has tokens that are not forgotten.
  bool reaches(int64_t block) const { return lowest_[block] <= last_; }

 private:
  Ladder(const Ladder& whole, const Extent&, Room&);
  void climb(const std::function<void(int64_t)>& fill);
  int64_t step_of(double distance) const;
  double distance_at(double place) const;
  double low_of(int64_t step) const;
  double high_of(int64_t step) const;
  Crossing within(int64_t step, Part, int64_t bound, const Keeps& keeps) const;
  Crossing walk(int64_t step, Part, int64_t bound, const Keeps& keeps) const;
  Extent extent_of(int64_t step) const;
  std::span<const Member> crowd(int64_t step, double x, const Keeps& keeps) const;
  std::span<const Member> members(int64_t step, const Keeps& keeps) const;

  std::span<const double> x_;
  const Passes& passes_;
  Room& room_;
  bool weighed_;
  int levels_;  // of finer ladders that there may be
  Range range_;
  std::vector<Sums> sums_;
  std::vector<uint16_t> lowest_;  // step of each block
  int64_t last_ = kSteps - 1;     // step that is not forgotten
  bool whole_ = true;             // that step
};

}  // namespace hearth::sampling
