// o[r][d] += w[r][t] * v[t][d] for t in order: the second product of attention, for a tile of rows at once.
#pragma once

#include "attention/cache.h"
#include "attention/dots.h"

namespace hearth::HEARTH_ISA {

#if defined(__AVX512F__)
constexpr int kAccumulators = 24;  // vectors of 16 lanes that stay in registers
#elif defined(__AVX2__)
constexpr int kAccumulators = 6;
#else
constexpr int kAccumulators = 3;
#endif

// Weights w[r * w_stride + t] and sums o[r * o_stride + d] of a tile; V of one KV head.
struct WeightedSum {
  const void* v;
  int64_t first, head_dim;  // the index in v of position 0; positions are head_dim values apart
  const float* w;
  int64_t w_stride;
  float* o;
  int64_t o_stride;
};

// Columns [d, d + 16 * width) of `rows` rows, positions [begin, end).
template <class Values, int rows, int width>
static inline void add_columns(const WeightedSum& s, int64_t d, int64_t begin, int64_t end) {
  F32x16 sum[rows][width];
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
    for (int c = 0; c < width; ++c) sum[r][c] = load16(s.o + r * s.o_stride + d + 16 * c);
  for (int64_t t = begin; t < end; ++t) {
    const int64_t at = s.first + t * s.head_dim + d;
#pragma GCC unroll 8
    for (int c = 0; c < width; ++c) {
      const F32x16 v = Values::read(s.v, at + 16 * c);
#pragma GCC unroll 8
      for (int r = 0; r < rows; ++r) sum[r][c] = sum[r][c] + v * s.w[r * s.w_stride + t];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
    for (int c = 0; c < width; ++c) store16(s.o + r * s.o_stride + d + 16 * c, sum[r][c]);
}

template <class Values, int rows>
static inline void add_last_columns(const WeightedSum& s, int64_t d, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    const F32x16 v = Values::read(s.v, s.first + t * s.head_dim + d, s.head_dim - d);
    for (int r = 0; r < rows; ++r) {
      float* o = s.o + r * s.o_stride + d;
      store16(o, load16(o) + v * s.w[r * s.w_stride + t]);
    }
  }
}

template <class Values, int rows>
static void add_rows(const WeightedSum& s, int64_t begin, int64_t end) {
  constexpr int most = kAccumulators / rows, width = most >= 8 ? 8 : most >= 4 ? 4 : most >= 2 ? 2 : 1;
  int64_t d = 0;
  for (; d + 16 * width <= s.head_dim; d += 16 * width) add_columns<Values, rows, width>(s, d, begin, end);
  for (; d + 16 <= s.head_dim; d += 16) add_columns<Values, rows, 1>(s, d, begin, end);
  if (d < s.head_dim) add_last_columns<Values, rows>(s, d, begin, end);
}

template <class Values>
static inline void add_values(const WeightedSum& s, int rows, int64_t begin, int64_t end) {
  if (begin >= end) return;
  switch (rows) {
    case 1: return add_rows<Values, 1>(s, begin, end);
    case 2: return add_rows<Values, 2>(s, begin, end);
    case 3: return add_rows<Values, 3>(s, begin, end);
    case 4: return add_rows<Values, 4>(s, begin, end);
    case 5: return add_rows<Values, 5>(s, begin, end);
    default: return add_rows<Values, kTile>(s, begin, end);
  }
}

}  // namespace hearth::HEARTH_ISA
