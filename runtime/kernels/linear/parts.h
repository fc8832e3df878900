// What every linear kernel shares: the command read once, the share of a thread, the epilogue.
#pragma once

#include "arithmetic.h"
#include "attributes.h"

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
  static constexpr int64_t kGroupedHead = 320;  // scales f32[4][16], zeros u8[4][16] of four groups
  int64_t kp, stride;  // padded K; bytes of a block
  int group_log2;      // of K-values in a group: 32, 64 or 128 (q4b16, t2b16 .. t6b16)
  int64_t group;       // K-values in a group, a multiple of 16 (g4b16, g8b16)
  int bits;            // of a code of t2b16 .. t6b16, else 0
  int64_t groups;      // t2b16 .. t6b16: of a row
  Packing(int layout, int64_t k, int64_t group_k)
      : kp(k), stride(0), group_log2(5), group(group_k), bits(table_bits(layout)), groups(0) {
    switch (layout) {
      case kF32B16: stride = k * 64; break;
      case kF16B16: stride = k * 32; break;
      case kQ8B16:
        kp = round_up(k, 64);
        stride = kp * 16;
        break;
      case kG4B16:
      case kG8B16:
        kp = round_up(k, 16);
        stride = (k + 4 * group - 1) / (4 * group) * kGroupedHead + kp * (layout == kG4B16 ? 8 : 16);
        break;
      case kQ4B16:
        kp = round_up(k, group > 64 ? group : 64);
        stride = round_up(kp / group * 16, 64) + kp * 8;
        group_log2 = __builtin_ctzll(static_cast<unsigned long long>(group));
        break;
      default:
        kp = round_up(k, 32);
        groups = (kp + group - 1) / group;
        stride = groups * 16 + kp * 2 * bits;
        group_log2 = __builtin_ctzll(static_cast<unsigned long long>(group));
    }
  }
  int64_t begin() const { return bits ? kTableNbytes : 0; }  // of the first block
  // q4b16: where in a block the 16 multipliers of the group of k lie, and the nibbles of k .. k + 8 (k % 8 = 0).
  int64_t multipliers_of(int64_t k) const {
    const int64_t fours = k >> (group_log2 + 2);
    return fours * 64 + (fours << (group_log2 + 5)) + (k >> group_log2 & 3) * 16;
  }
  int64_t nibbles_of(int64_t k) const { return (k >> (group_log2 + 2)) * 64 + 64 + k * 8; }
  // t2b16 .. t6b16: where in a block the 16 multipliers of the group of k lie, and the lines of planes of k .. k + 32
  // (k % 32 = 0): `bits` lines of 64 bytes. Every four groups have their multipliers, 16 bytes each, before their lines.
  int64_t table_multipliers_of(int64_t k) const {
    const int64_t fours = k >> (group_log2 + 2);
    return fours * 64 + (fours << (group_log2 + 2)) * 2 * bits + (k >> group_log2 & 3) * 16;
  }
  int64_t planes_of(int64_t k) const {
    return smaller(((k >> (group_log2 + 2)) + 1) * 4, groups) * 16 + k * 2 * bits;
  }
};

// g4b16, g8b16: where in a block the scales and zero points of group g lie, and where its codes would start if the
// codes of k = 0 started the group; `nbytes` of codes per k (8 or 16).
struct Group {
  int64_t scales, zeros, codes;
  Group(const Packing& packing, int64_t g, int64_t nbytes)
      : scales(g / 4 * (Packing::kGroupedHead + 4 * packing.group * nbytes) + g % 4 * 64),
        zeros(scales - g % 4 * 48 + 256),
        codes((g / 4 + 1) * Packing::kGroupedHead) {}
};

// 16 bf16 values: the upper halves of f32.
static inline F32x16 load_bf16(const uint16_t* p) {
  uint32_t wide[16];
  for (int i = 0; i < 16; ++i) wide[i] = uint32_t(p[i]) << 16;
  return bits_to_float(load16_int(wide));
}

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
  const float* scale;          // f32[blocks * 16], q8b16 and q4b16 only
  const uint16_t* half_scale;  // bf16[blocks * 16], t2b16 .. t6b16 only
  const Delta* deltas;         // of each row, or null

  explicit Linear(const Command& c, const Delta* of_rows = nullptr) : Linear(c, ints_of<LinearInts>(c), of_rows) {}
  Linear(const Command& c, const LinearInts& i, const Delta* of_rows)
      : x(static_cast<const uint8_t*>(c.operand[0])),
        w(static_cast<const uint8_t*>(c.operand[1])),
        bias(static_cast<const float*>(c.operand[2])),
        residual(static_cast<const uint8_t*>(c.operand[3])),
        y(static_cast<uint8_t*>(c.operand[4])),
        x_stride(c.stride[0]), residual_stride(c.stride[3]), y_stride(c.stride[4]),
        k(i.k), group(i.group),
        columns(i.columns()),
        blocks_per_unit(i.paired() ? 2 : 1),
        units((columns + 15) / 16),
        activation(static_cast<int>(i.activation)),
        packing(static_cast<int>(i.layout), i.k, i.group),
        scale(reinterpret_cast<const float*>(w + units * blocks_per_unit * packing.stride)),
        half_scale(reinterpret_cast<const uint16_t*>(w + packing.begin() + units * blocks_per_unit * packing.stride)),
        deltas(of_rows) {}

  // Asks for what ends a unit of one row: a line each, for which the stream of weights would have to wait.
  void fetch_ends(int64_t unit) const {
    const int64_t channel = unit * 16 * blocks_per_unit;
    __builtin_prefetch(packing.bits ? static_cast<const void*>(half_scale + channel) : scale + channel);
    if (!packing.bits && blocks_per_unit == 2) __builtin_prefetch(scale + channel + 16);
    if (residual) __builtin_prefetch(residual + unit * 64);
    __builtin_prefetch(y + unit * 64, 1);
  }
  int64_t blocks() const { return units * blocks_per_unit; }
  const uint8_t* block(int64_t index) const { return w + packing.begin() + index * packing.stride; }
  const int8_t* levels() const { return reinterpret_cast<const int8_t*>(w); }  // s8[64], t2b16 .. t6b16 only
  // Of the 16 channels from `channel` on.
  F32x16 scales(int64_t channel) const {
    return packing.bits ? load_bf16(half_scale + channel) : load16(scale + channel);
  }
  const int8_t* codes(int64_t row) const {
    return reinterpret_cast<const int8_t*>(x + row * x_stride);
  }
  const int32_t* sums(int64_t row) const {
    return reinterpret_cast<const int32_t*>(x + row * x_stride + round_up(k, 128));
  }
  int32_t sum_of_codes(int64_t row) const {
    uint32_t total = 0;  // of real codes at most 127 * 131072; what is not codes may wrap
    for (int64_t i = 0; i < round_up(k, 128) / 32; ++i) total += uint32_t(sums(row)[i]);
    return int32_t(total);
  }
  float x_scale(int64_t row) const {
    const int64_t columns = round_up(k, 128);
    return *reinterpret_cast<const float*>(x + row * x_stride + columns + columns / 8);
  }
};

// What unsigned nibbles, 8 too large, add to a dot with codes of this sum, taken off; wraps for what are not codes.
static inline int32_t nibble_offset(int32_t sum_of_codes) {
  return int32_t(-8u * uint32_t(sum_of_codes));
}

static inline I32x16 load_i32(const void* p) { return load16_int(p); }
static inline F32x16 load_columns(const float* p, int64_t n) {
  return n == 16 ? load16(p) : load_some(p, n);
}

}  // namespace hearth::HEARTH_ISA
