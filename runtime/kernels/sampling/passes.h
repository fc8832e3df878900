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
  double best;    // the highest x with a weight
};

// Distances |x - centre| from low to high, in buckets: `scale` of them for each unit, the last for all beyond. What is
// not in the range is in bucket kBuckets.
struct Range {
  double centre, low, high, scale;
};

struct Extent {
  double low, high;
};

struct Passes {
  // Any n.
  Scan (*scan)(const float* logits, int64_t n);
  // x = (logits - best) / temperature, of one block; the least above -inf.
  double (*relative)(const float* logits, double best, double temperature, double* x);
  // w = 2^43 e^x, rounded; their sum. x <= 0. n is a multiple of kBlock, as in all that follow.
  int64_t (*weigh)(const double* x, int64_t n, int64_t* w);
  void (*buckets)(const double* x, int64_t n, const Range&, int64_t* bucket);
  // The distances in a bucket.
  Extent (*extent)(const double* x, int64_t n, const Range&, int64_t chosen);
  // Places where `bucket` is `chosen`, in order; how many those are. It ends above `most` of them.
  int64_t (*members)(const uint16_t* bucket, int64_t n, uint16_t chosen, int64_t most, uint32_t* places);
  // x = -inf where |x| > most.
  void (*cut)(double* x, int64_t n, double most);
  // w = 0 where |x - centre| > most or w < least.
  Sums (*keep)(const double* x, int64_t* w, int64_t n, double centre, double most, int64_t least);
  // x less `by` where it has a weight, else -inf.
  void (*shift)(double* x, const int64_t* w, int64_t n, double by);
};

// Of the highest ISA up to this one.
const Passes& passes_of(Isa isa);

}  // namespace hearth::sampling
