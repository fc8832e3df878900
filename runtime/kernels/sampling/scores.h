// x = (score - best) / temperature of every token, block by block: what may not come is -inf.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sampling/passes.h"
#include "sampling/sample.h"

namespace hearth::sampling {

class Scores {
 public:
  Scores(const Question&, const Passes&);

  bool none() const;        // no token is left, or a logit is not finite
  double best() const { return best_; }
  double farthest() const;  // the largest -x
  int64_t blocks() const { return (tokens() + kBlock - 1) / kBlock; }
  int64_t tokens() const { return int64_t(q_.logits.size()); }
  void relative(int64_t block, double* x) const;
  // x by the logits of a block's number of tokens from all over.
  void sample(double* x) const;
  // The lowest token that has the best score.
  int64_t first() const;

 private:
  // A changed token and its score; -inf: it must not come.
  struct Own {
    int64_t token;
    double score;
  };

  void sort_changed();
  std::span<const Own> changed(int64_t block) const;
  const float* logits(int64_t block, float* room) const;
  const float* masked(int64_t block, float* room) const;
  const float* plain(int64_t block, float* room) const;
  void scan();

  const Question& q_;
  const Passes& passes_;
  std::vector<Own> own_;         // by block
  std::vector<int64_t> starts_;  // of each block in `own_`, and the end
  int64_t bad_ = 0;
  double best_, least_;
};

// A whole block of logits; the last one in `room`, filled up with -inf.
const float* block_of(std::span<const float> logits, int64_t block, float* room);

}  // namespace hearth::sampling
