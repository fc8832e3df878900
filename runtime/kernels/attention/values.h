// o[r][d] += w[r][t] * v[t][d] for t in order: the second product of attention, for a group of rows at once.
#pragma once

#include "attention/cache.h"

namespace hearth::HEARTH_ISA {

// kGroup rows at most share the registers; with sums of columns_of(rows) vectors of 16 columns each they all fit.
#if defined(__AVX512F__)
constexpr int kGroup = 8;
constexpr int columns_of(int rows) { return rows < 3 ? 8 : rows < 7 ? 4 : 2; }
#elif defined(__AVX2__)
constexpr int kGroup = 6;
constexpr int columns_of(int rows) { return rows < 2 ? 4 : rows < 4 ? 2 : 1; }
#else
constexpr int kGroup = 3;
constexpr int columns_of(int) { return 1; }
#endif

// v * *w. Where products and sums run on units of their own, one of each a cycle is reached only with the weight as
// the product's memory operand; the compiler would rather broadcast it to a register first.
[[gnu::always_inline]] static inline F32x16 times(F32x16 v, const float* w) {
#if defined(__AVX512F__)
  F32x16 product;
  asm("vmulps %2%{1to16%}, %1, %0" : "=v"(product) : "v"(v), "m"(*w));
  return product;
#else
  return v * *w;
#endif
}

// Weights w[r * w_stride + t] and sums o[r * o_stride + d] of a group; V of one KV head, position t at v[t * v_stride].
struct WeightedSum {
  const void* v;
  int64_t first, v_stride, head_dim;  // first: the index in v of position 0
  const float* w;
  int64_t w_stride;
  float* o;
  int64_t o_stride;
  float zero;  // taken from every value where they are shifted
};

template <class Values>
[[gnu::always_inline]] static inline F32x16 less_zero(F32x16 v, float zero) {
  if constexpr (Values::kShifted) return v - zero;
  return v;
}

// Columns [d, d + 16 * width) of `rows` rows, positions [begin, end).
template <class Values, int rows, int width>
static inline void add_columns(const WeightedSum& s, int64_t d, int64_t begin, int64_t end) {
  F32x16 sum[rows][width];
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
    for (int c = 0; c < width; ++c) sum[r][c] = load16(s.o + r * s.o_stride + d + 16 * c);
  for (int64_t t = begin; t < end; ++t) {
    const int64_t at = s.first + t * s.v_stride + d;
    if constexpr (Values::kFetched) fetch<Values>(s.v, at + kBlock * s.v_stride, 16 * width);
    F32x16 v[width];
#pragma GCC unroll 8
    for (int c = 0; c < width; ++c) v[c] = less_zero<Values>(Values::read(s.v, at + 16 * c), s.zero);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
      const float* w = s.w + r * s.w_stride + t;
#pragma GCC unroll 8
      for (int c = 0; c < width; ++c) sum[r][c] = sum[r][c] + times(v[c], w);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
    for (int c = 0; c < width; ++c) store16(s.o + r * s.o_stride + d + 16 * c, sum[r][c]);
}

template <class Values, int rows>
static inline void add_last_columns(const WeightedSum& s, int64_t d, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    const F32x16 v = less_zero<Values>(Values::read(s.v, s.first + t * s.v_stride + d, s.head_dim - d), s.zero);
    for (int r = 0; r < rows; ++r) {
      float* o = s.o + r * s.o_stride + d;
      store16(o, load16(o) + v * s.w[r * s.w_stride + t]);
    }
  }
}

// Columns from d on, `width` vectors at a time, then half as many.
template <class Values, int rows, int width>
static inline int64_t add_whole_columns(const WeightedSum& s, int64_t d, int64_t begin, int64_t end) {
  for (; d + 16 * width <= s.head_dim; d += 16 * width) add_columns<Values, rows, width>(s, d, begin, end);
  if constexpr (width > 1) d = add_whole_columns<Values, rows, width / 2>(s, d, begin, end);
  return d;
}

template <class Values, int rows>
static void add_rows(const WeightedSum& s, int64_t begin, int64_t end) {
  const int64_t d = add_whole_columns<Values, rows, columns_of(rows)>(s, 0, begin, end);
  if (d < s.head_dim) add_last_columns<Values, rows>(s, d, begin, end);
}

template <class Values, int most = kGroup>
static inline void add_values(const WeightedSum& s, int rows, int64_t begin, int64_t end) {
  if (begin >= end) return;
  if (rows == most) return add_rows<Values, most>(s, begin, end);
  if constexpr (most > 1) add_values<Values, most - 1>(s, rows, begin, end);
}

}  // namespace hearth::HEARTH_ISA
