// One token by its logits: the definitions of runtime/sampling, without sorting all tokens.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernel.h"
#include "sampling/passes.h"

namespace hearth::sampling {

// What is asked for. `changed` are tokens whose scores are not their logits; -inf: it must not come. Bit i % 32 of word
// i / 32 of `mask`: token i may come (null: all may; words that lack count as 0).
struct Question {
  std::span<const float> logits;  // at most 2^20
  std::span<const int64_t> changed;
  std::span<const double> scores;  // of the changed
  const uint32_t* mask;
  int64_t words;
  double temperature;  // above 0
  int64_t top_k;       // 0: all
  double top_p, min_p, typical_p;
};

// The first token at which the weights so far exceed number / 2^53 of their sum; -1 where no token is left, or a logit
// is not finite.
int64_t draw(const Question&, uint64_t number, const Passes&);
// The weights of all tokens after every step, by runtime/sampling/weights.py, to a vector of zeros.
void weigh(const Question&, const Passes&, std::span<int64_t> weights);
// The best score, the lowest token of equal ones; -1 as above.
int64_t greedy(const Question&, const Passes&);
// The tokens of the highest logits, best first, the lower of equal ones first.
std::vector<int64_t> best_tokens(std::span<const float> logits, int64_t count);

// These, and 2^43 times the sum of e^(logit - best) over all tokens.
struct Ranked {
  std::vector<int64_t> tokens;
  int64_t weight;
};
Ranked ranked(std::span<const float> logits, int64_t count, const Passes&);

}  // namespace hearth::sampling
