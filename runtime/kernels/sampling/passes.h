// Passes over blocks of tokens: one source for every ISA (passes_simd.cc), the same bits on each of them.
#pragma once

#include <cstdint>

#include "kernel.h"

namespace hearth::sampling {

constexpr int64_t kBlock = 1024;  // the tokens of a block; all of them are whole: x = -inf beyond the vocabulary
constexpr int kWords = kBlock / 32;
constexpr int kSteps = 512;
constexpr int kTables = 4;    // in turn: additions to one place would wait for each other where distances are equal
constexpr int kOneBits = 43;  // the best weighs 2^43: sums over 2^20 tokens fit 63 bits

struct Scan {
  int64_t bad;        // NaNs and infinities
  float best, least;  // of those above -inf; -inf and inf of no token
};

// Steps of the distance -x from `low` on, the last for all beyond up to `high`: `scale` of them for each unit up to the
// first bend, between the bends, and after them. What is not in the range has the step kSteps.
struct Range {
  double low, high;
  double bends[2];
  double scale[3];
};

// The step before it is rounded; it ascends with the distance, also as rounded here. V: double, or a vector of them.
template <class V>
inline V place_of(V distance, const Range& range) {
  const V first = V{} + range.bends[0], second = V{} + range.bends[1], last = V{} + (kSteps - 1);
  const V above = distance > first ? distance : first;
  const V place = ((distance < first ? distance : first) - range.low) * range.scale[0] +
                  ((above < second ? above : second) - first) * range.scale[1] +
                  ((distance > second ? distance : second) - second) * range.scale[2];
  return place < last ? place : last;
}

// Sums over tokens: of w, of w x rounded to a whole number each, of 1.
struct alignas(32) Sums {
  int64_t mass, moment, count, unused;
};

// In parts, which add up.
struct Tables {
  Sums of[kTables][kSteps + 1];
};

// x from `least` on whose |x - centre| is at most `most`.
struct Interval {
  double least, centre, most;
};

struct Extent {
  double low, high;
};

struct Passes {
  // Any n.
  Scan (*scan)(const float* logits, int64_t n);
  // A block: the logits where the bit of its word is set, else -inf.
  void (*mask)(const float* logits, const uint32_t* words, float* to);
  // A block: x = (logits - best) / temperature.
  void (*relative)(const float* logits, double best, double temperature, double* x);
  // w = 2^43 e^x, rounded; their sum. x <= 0. n is a multiple of 64, here and below.
  int64_t (*weigh)(const double* x, int64_t n, int64_t* w);
  // A block: the step of every x, and its sums added to the tables (w null: count alone); the lowest step.
  int64_t (*climb)(const double* x, const int64_t* w, const Range&, uint16_t* steps, Tables&);
  // The distances -x of one step.
  Extent (*extent)(const double* x, const uint16_t* steps, int64_t n, int64_t step);
  // Places of one step, in order; how many those are. There is room for n + 64.
  int64_t (*members)(const uint16_t* steps, int64_t n, int64_t step, uint32_t* places);
  // A block: y = x - by within the interval, else -inf.
  void (*cut)(const double* x, const Interval&, double by, double* y);
  // A block: x = -inf and w = 0 where w < least; the sum of the others.
  int64_t (*drop_light)(double* x, int64_t* w, int64_t least);
};

// Of the highest ISA up to this one.
const Passes& passes_of(Isa isa);

}  // namespace hearth::sampling
