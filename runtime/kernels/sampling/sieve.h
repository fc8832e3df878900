// The steps of a draw, each of which narrows what is kept, and the weights of what is left.
#pragma once

#include <cstdint>
#include <optional>

#include "sampling/ladder.h"
#include "sampling/sample.h"
#include "sampling/scores.h"

namespace hearth::sampling {

// One of a thread at a time: they share room.
class Sieve {
 public:
  Sieve(const Question&, const Passes&);

  int64_t blocks() const { return scores_.none() ? 0 : scores_.blocks(); }
  // The weights of a block, and their sum.
  int64_t weigh(int64_t block, int64_t* w) const;

 private:
  void climb(bool weighed);
  void top_k(int64_t count);
  void top_p(double share);
  void min_p(double share);
  void typical_p(double share);

  Keeps keeps() const;
  void end_at(const Crossing&, int64_t ties);
  int64_t tie(double distance, int64_t count) const;
  void keep(int64_t block, double by, double* y) const;

  const Passes& passes_;
  Scores scores_;
  const double* x_ = nullptr;      // of all tokens, where there is a ladder
  std::optional<Ladder> ladder_;   // of what is kept
  Interval interval_;              // of what is kept
  int64_t last_tie_ = INT64_MAX - kBlock;  // of the tokens at interval_.least, those up to this one are kept
  int64_t light_ = 0;              // weights below it go
  double best_ = 0;                // x of the best that is left
};

}  // namespace hearth::sampling
