// What an adapter adds to 16 channels of a row: B u, each product and each sum rounded, over the ranks in order.
#pragma once

#include "half16.h"
#include "linear/parts.h"

namespace hearth::HEARTH_ISA {

template <int kForm>
static inline F32x16 adapter_values(const void* values, int64_t rank) {
  if constexpr (kForm == kF32Values) return load16(static_cast<const float*>(values) + rank * 16);
  if constexpr (kForm == kF16Values) return load_half16(static_cast<const uint16_t*>(values) + rank * 16);
  I8x16 codes;
  __builtin_memcpy(&codes, static_cast<const int8_t*>(values) + rank * 16, 16);
  return to_float(widen(codes));
}

// In registers: to the compiler a store to `sums` may change what is read next, and each sum would go through memory.
template <int kRows, int kForm>
static inline void sum_of_ranks(const Delta* rows, const DeltaBlock& block, F32x16* sums) {
  F32x16 total[kRows] = {};
  const float* u[kRows];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) u[r] = rows[r].u + block.first;
  for (int64_t rank = 0; rank < block.count; ++rank) {
    const F32x16 values = adapter_values<kForm>(block.values, rank);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) total[r] = total[r] + values * u[r][rank];
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) sums[r] = total[r];
}

// Of rows with the same adapter; -0, which changes nothing it is added to, where there is none for the channels.
template <int kRows>
static inline void deltas_of(const Delta* rows, int64_t index, F32x16* sums) {
  if (!rows[0].blocks || rows[0].blocks[index].count == 0) {
    for (int r = 0; r < kRows; ++r) sums[r] = bits_to_float(splat_int(INT32_MIN));
    return;
  }
  const DeltaBlock& block = rows[0].blocks[index];
  switch (rows[0].form) {
    case kInt8Values: {
      sum_of_ranks<kRows, kInt8Values>(rows, block, sums);
      const auto* codes = static_cast<const int8_t*>(block.values);
      const F32x16 scale = load16(reinterpret_cast<const float*>(codes + block.count * 16));
      for (int r = 0; r < kRows; ++r) sums[r] = sums[r] * scale;
      break;
    }
    case kF16Values: sum_of_ranks<kRows, kF16Values>(rows, block, sums); break;
    default: sum_of_ranks<kRows, kF32Values>(rows, block, sums);
  }
}

}  // namespace hearth::HEARTH_ISA
