// What every linear kernel shares: the command read once, the share of a thread, the epilogue.
#pragma once

#include "arithmetic.h"

namespace hearth::HEARTH_ISA {

struct Range {
  int64_t begin, end;
};

// The share of `thread`: contiguous, balanced to one item.
static inline Range share(int64_t items, int64_t thread, int64_t threads) {
  return {items * thread / threads, items * (thread + 1) / threads};
}

static inline int64_t round_up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }
static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// Bytes between the blocks of 16 channels of a packed weight (docs/layouts.md).
struct Packing {
  int64_t kp, group, stride;  // padded K; K-values of a group; bytes of a block
  Packing(int layout, int64_t k, int64_t group) : kp(k), group(group), stride(0) {
    switch (layout) {
      case kF32B16: stride = k * 64; break;
      case kF16B16: stride = k * 32; break;
      case kQ8B16:
        kp = round_up(k, 64);
        stride = kp * 16;
        break;
      default:
        kp = round_up(k, group > 64 ? group : 64);
        stride = round_up(kp / group * 16, 64) + kp * 8;
    }
  }
  // q4b16: where in a block the 16 multipliers of the group of k lie, and the nibbles of k .. k + 8 (k % 8 = 0).
  int64_t multipliers_of(int64_t k) const { return k / (4 * group) * (64 + 32 * group) + k / group % 4 * 16; }
  int64_t nibbles_of(int64_t k) const { return k / (4 * group) * 64 + 64 + k * 8; }
};

// y[rows, columns] = activation(x @ w^T + bias) + residual. A unit is what one thread computes whole: a block of
// 16 channels or, paired, a gate and an up block; either gives 16 columns of y.
struct Linear {
  const uint8_t* x;
  const uint8_t* w;
  const float* bias;
  const uint8_t* residual;
  uint8_t* y;
  int64_t x_stride, residual_stride, y_stride;
  int64_t k, group, columns, blocks_per_unit, units;
  int activation;
  Packing packing;
  const float* scale;  // f32[blocks * 16], quantised layouts only

  explicit Linear(const Command& c)
      : x(static_cast<const uint8_t*>(c.operand[0])),
        w(static_cast<const uint8_t*>(c.operand[1])),
        bias(static_cast<const float*>(c.operand[2])),
        residual(static_cast<const uint8_t*>(c.operand[3])),
        y(static_cast<uint8_t*>(c.operand[4])),
        x_stride(c.stride[0]), residual_stride(c.stride[3]), y_stride(c.stride[4]),
        k(c.ints[1]), group(c.ints[3]),
        columns(c.ints[4] == kSwiGLUActivation ? c.ints[0] / 2 : c.ints[0]),
        blocks_per_unit(c.ints[4] == kSwiGLUActivation ? 2 : 1),
        units((columns + 15) / 16),
        activation(static_cast<int>(c.ints[4])),
        packing(static_cast<int>(c.ints[2]), c.ints[1], c.ints[3]),
        scale(reinterpret_cast<const float*>(w + units * blocks_per_unit * packing.stride)) {}

  int64_t blocks() const { return units * blocks_per_unit; }
  const uint8_t* block(int64_t index) const { return w + index * packing.stride; }
  const int8_t* codes(int64_t row) const {
    return reinterpret_cast<const int8_t*>(x + row * x_stride);
  }
  const int32_t* sums(int64_t row) const {
    return reinterpret_cast<const int32_t*>(x + row * x_stride + round_up(k, 128));
  }
  int32_t sum_of_codes(int64_t row) const {
    int32_t total = 0;  // |total| <= 127 * 131072
    for (int64_t i = 0; i < round_up(k, 128) / 32; ++i) total += sums(row)[i];
    return total;
  }
  float x_scale(int64_t row) const {
    const int64_t columns = round_up(k, 128);
    return *reinterpret_cast<const float*>(x + row * x_stride + columns + columns / 8);
  }
};

// The blocks a thread computes, whole units only.
static inline Range share_of_blocks(const Linear& l, const Call& call) {
  const Range units = share(l.units, call.thread, call.threads);
  return {units.begin * l.blocks_per_unit, units.end * l.blocks_per_unit};
}

static inline F32x16 load_columns(const float* p, int64_t n) {
  return n == 16 ? load16(p) : load_some(p, n);
}

// From the products of a block to y, in the order of docs/arithmetic.md; `v` holds the product of the unit's
// one or two blocks, times sx where x is quantised.
template <bool kScaled>
static inline void finish(const Linear& l, int64_t row, int64_t unit, const F32x16* v) {
  const int64_t first = unit * 16, count = smaller(16, l.columns - first);
  const float* scale = l.scale + first * l.blocks_per_unit;
  F32x16 y = v[0];
  if (kScaled) y = y * load16(scale);
  if (l.bias) y = y + load_columns(l.bias + first, count);
  if (l.activation == kSwiGLUActivation) {
    F32x16 up = v[1];
    if (kScaled) up = up * load16(scale + 16);
    if (l.bias) up = up + load_columns(l.bias + l.columns + first, count);
    y = silu16(y) * up;
  } else if (l.activation == kSiluActivation) {
    y = silu16(y);
  }
  if (l.residual) {
    const uint8_t* from = l.residual + row * l.residual_stride;
    y = y + load_columns(reinterpret_cast<const float*>(from) + first, count);
  }
  float* to = reinterpret_cast<float*>(l.y + row * l.y_stride) + first;
  if (count == 16) store16(to, y);
  else store_some(to, y, count);
}

// finish() from integer sums: v = float(acc) * sx.
static inline void finish_sums(const Linear& l, int64_t row, int64_t unit, const I32x16* sums) {
  const float sx = l.x_scale(row);
  F32x16 v[2] = {};
  for (int64_t b = 0; b < l.blocks_per_unit; ++b) v[b] = to_float(sums[b]) * sx;
  finish<true>(l, row, unit, v);
}

}  // namespace hearth::HEARTH_ISA
