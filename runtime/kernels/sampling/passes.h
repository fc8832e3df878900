// Passes over all tokens: one source for every ISA (passes_simd.cc), the same bits on each of them.
//
// Arrays of x and w hold whole blocks: what lies beyond the vocabulary is x = -inf and w = 0.
#pragma once

#include <cstdint>

#include "kernel.h"

namespace hearth::sampling {

constexpr int64_t kBlock = 1024;
constexpr int kBuckets = 512;
constexpr int kOneBits = 43;  // the best weighs 2^43: sums over 2^20 tokens fit 63 bits

struct Scan {
  int64_t bad;  // NaNs and infinities
  float best;   // -inf of no token
};

struct Sums {
  int64_t w, wx;  // of w, and of w x rounded to a whole number each
};

struct Passes {
  // Any n.
  Scan (*scan)(const float* logits, int64_t n);
  // x = (logits - best) / temperature, of one block.
  void (*relative)(const float* logits, double best, double temperature, double* x);
  // w = 2^43 e^x, rounded; the sum. x <= 0. n is a multiple of kBlock, as in all that follow.
  int64_t (*weigh)(const double* x, int64_t n, int64_t* w);
  // The bucket of |x - centre|: 0 at `low`, `scale` more for each unit, the last for all beyond.
  void (*buckets)(const double* x, int64_t n, double centre, double low, double scale, int64_t* bucket);
  // x = -inf where |x| > most.
  void (*cut)(double* x, int64_t n, double most);
  // w = 0 where |x - centre| > most or w < least.
  Sums (*keep)(const double* x, int64_t* w, int64_t n, double centre, double most, int64_t least);
};

// Of the highest ISA up to this one.
const Passes& passes_of(Isa isa);

}  // namespace hearth::sampling
