// Weights with a float scale and a zero point per group: w = float(code - zero) * scale, then fma over k in order.
//
// float(code - zero) is exact: 2^23 + code and 2^23 + zero are floats whose difference is a small whole number.
#pragma once

#include "linear/float_tile.h"

namespace hearth::HEARTH_ISA {

// Vectors of 16 channels as the fma of float_tile.h wants them.
static inline Lanes lanes_of(F32x16 v) {
#if defined(__AVX512F__)
  return {(__m512)v};
#elif defined(__AVX2__)
  return {(__m256)v.low, (__m256)v.high};
#else
  Lanes lanes;
  store16(lanes.v, v);
  return lanes;
#endif
}

// One group of one block: what its 16 channels share.
template <int kBits>
struct GroupValues {
  static constexpr int kBytes = kBits * 2, kPerLine = 32 / kBits;  // of codes per k; k in a line of 64 bytes
  const uint8_t* codes;  // of k = 0, were the group's codes to start there
  F32x16 scale, zero;    // zero: 2^23 + the zero point

  GroupValues() = default;
  GroupValues(const Packing& packing, const uint8_t* block, int64_t g) {
    const Group at(packing, g, kBytes);
    I8x16 points;
    __builtin_memcpy(&points, block + at.zeros, 16);
    zero = bits_to_float((widen(points) & 255) | kExponent);
    scale = load16(reinterpret_cast<const float*>(block + at.scales));
    codes = block + at.codes;
  }

  I32x16 line(int64_t k) const { return load_i32(codes + k * kBytes); }  // k % kPerLine = 0

  // w of the j-th k of a line.
  F32x16 weight(I32x16 line, int j) const {
    const int shift = kBits == 4 ? 8 * (j % 4) + j / 4 * 4 : 8 * j;
    const I32x16 code = (line >> shift) & ((1 << kBits) - 1);
    return (bits_to_float(code | kExponent) - zero) * scale;
  }

  static constexpr int32_t kExponent = 0x4B000000;  // of 2^23
};

// Reads w[k .. k + count] of one block as f32[count][16]; k is a multiple of 64.
template <int kBits>
static void read_grouped(const Linear& l, const uint8_t* block, int64_t k, int64_t count, float* out) {
  using Values = GroupValues<kBits>;
  const int64_t end = k + count;
  for (int64_t at = k; at < end;) {
    const int64_t g = at / l.group, stop = smaller(end, (g + 1) * l.group);
    const Values values(l.packing, block, g);
    for (; at < stop; at += Values::kPerLine) {
      const I32x16 line = values.line(at);
#pragma GCC unroll 8
      for (int j = 0; j < Values::kPerLine; ++j)
        if (at + j < stop) store16(out + (at + j - k) * 16, values.weight(line, j));
    }
  }
}

// sums[r][b] += x[r][k] * w[b][k] over all k, without a panel: for few rows.
template <int kBits, int kRows, int kBlocks>
static void grouped_tile(const Linear& l, int64_t block, int64_t row, float* sums, int64_t sums_stride) {
  using Values = GroupValues<kBits>;
  Lanes acc[kRows][kBlocks];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int b = 0; b < kBlocks; ++b) acc[r][b] = lanes_of(F32x16{});
  for (int64_t g = 0; g * l.group < l.k; ++g) {
    const int64_t stop = smaller(l.k, (g + 1) * l.group);
    Values values[kBlocks];
#pragma GCC unroll 8
    for (int b = 0; b < kBlocks; ++b) values[b] = Values(l.packing, l.block(block + b), g);
    const auto multiply = [&](int64_t k, int j, const I32x16* lines) {
#pragma GCC unroll 8
      for (int b = 0; b < kBlocks; ++b) {
        const Lanes w = lanes_of(values[b].weight(lines[b], j));
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r)
          acc[r][b].fma(*reinterpret_cast<const float*>(l.x + (row + r) * l.x_stride + (k + j) * 4), w);
      }
    };
    for (int64_t k = g * l.group; k < stop; k += Values::kPerLine) {
      I32x16 lines[kBlocks];
#pragma GCC unroll 8
      for (int b = 0; b < kBlocks; ++b) lines[b] = values[b].line(k);
      if (k + Values::kPerLine <= stop) {
#pragma GCC unroll 8
        for (int j = 0; j < Values::kPerLine; ++j) multiply(k, j, lines);
      } else {
        for (int j = 0; k + j < stop; ++j) multiply(k, j, lines);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int b = 0; b < kBlocks; ++b) acc[r][b].store(sums + r * sums_stride + b * 16);
}

}  // namespace hearth::HEARTH_ISA
