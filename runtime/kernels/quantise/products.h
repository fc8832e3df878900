// rows of c += a * b, terms of the sum in order from zero, then one addition: one rounding per operation.
#pragma once

#include "arithmetic.h"

namespace hearth::HEARTH_ISA {

constexpr int kProductRows = 4, kProductVectors = HEARTH_WIDTH == 16 ? 4 : 1;

// `Ahead`: of b the columns of the next tile are asked for; its rows are far apart, so nobody else guesses them.
template <int R, int V, bool Ahead = false>
[[gnu::always_inline]] static inline void product_tile(const float* a, int64_t a_stride, int64_t depth, const float* b,
                                                       int64_t b_stride, float* c, int64_t c_stride) {
  F32x16 sum[R][V] = {};
  for (int64_t d = 0; d < depth; ++d) {
    F32x16 at[V];
    if constexpr (Ahead)
      for (int v = 0; v < V; ++v) __builtin_prefetch(b + d * b_stride + (V + v) * 16);
    for (int v = 0; v < V; ++v) at[v] = load16(b + d * b_stride + v * 16);
    for (int r = 0; r < R; ++r) {
      const F32x16 x = splat(a[r * a_stride + d]);
      for (int v = 0; v < V; ++v) sum[r][v] = sum[r][v] + x * at[v];
    }
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) store16(c + r * c_stride + v * 16, load16(c + r * c_stride + v * 16) + sum[r][v]);
}

// rows is a multiple of 4, columns of 16.
static inline void add_product(int64_t rows, const float* a, int64_t a_stride, int64_t depth, const float* b,
                               int64_t b_stride, float* c, int64_t c_stride, int64_t columns) {
  int64_t j = 0;
  for (; j + kProductVectors * 16 <= columns; j += kProductVectors * 16) {
    product_tile<kProductRows, kProductVectors, true>(a, a_stride, depth, b + j, b_stride, c + j, c_stride);
    for (int64_t r = kProductRows; r < rows; r += kProductRows)
      product_tile<kProductRows, kProductVectors>(a + r * a_stride, a_stride, depth, b + j, b_stride,
                                                  c + r * c_stride + j, c_stride);
  }
  for (; j < columns; j += 16)
    for (int64_t r = 0; r < rows; r += kProductRows)
      product_tile<kProductRows, 1>(a + r * a_stride, a_stride, depth, b + j, b_stride, c + r * c_stride + j, c_stride);
}

}  // namespace hearth::HEARTH_ISA
