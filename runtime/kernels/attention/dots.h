// q8 . k8 for a tile of query rows over blocks of 16 positions; one implementation per ISA, all exact.
#pragma once

#include "arithmetic.h"

namespace hearth::HEARTH_ISA {

constexpr int kTile = 48;  // query rows of one KV head computed together, at most

// out[r * out_stride + 16 * b + n] = sum_d q[r * q_stride + d] * k[b][d / 4][n][d % 4]
// for r < rows <= kTile, b < blocks, n < 16, d < 4 * quads; sums[r] = sum_d q[r * q_stride + d].
void int8_dots(const int8_t* q, int64_t q_stride, const int32_t* sums, int rows, const int8_t* k, int64_t blocks,
               int64_t quads, int32_t* out, int64_t out_stride);

}  // namespace hearth::HEARTH_ISA
