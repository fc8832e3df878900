// The integer linears in vectors of 16 bytes, for every processor: a block's effective weights are widened to 16 bits
// once for all rows, even values of K apart from odd ones, and pairs of exact products are added in 32 bits.
#include "linear/epilogue.h"
#include "linear/levels.h"

#if defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace hearth::HEARTH_ISA {
namespace {

typedef uint16_t U16x8 __attribute__((vector_size(16)));
typedef int32_t I32x4InMemory __attribute__((vector_size(16), aligned(4), may_alias));
typedef int16_t I16x8InMemory __attribute__((vector_size(16), aligned(1), may_alias));

I16x8 load_words(const void* p) { return *static_cast<const I16x8InMemory*>(p); }
void store_words(void* p, I16x8 v) { *static_cast<I16x8InMemory*>(p) = v; }

// Of 8 products the sum of every two neighbours.
I32x4 pair_products(I16x8 a, I16x8 b) {
#if defined(__SSE2__)
  return (I32x4)_mm_madd_epi16((__m128i)a, (__m128i)b);
#elif defined(__aarch64__)
  const int16x8_t x = (int16x8_t)a, y = (int16x8_t)b;
  return (I32x4)vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(y)), vmull_high_s16(x, y));
#else
  I32x4 sums;
  for (int i = 0; i < 4; ++i) sums[i] = a[2 * i] * b[2 * i] + a[2 * i + 1] * b[2 * i + 1];
  return sums;
#endif
}

// Even (odd 0) or odd bytes in 16 bits.
I16x8 widened(I16x8 bytes, int odd) { return (odd ? bytes : bytes << 8) >> 8; }

// One block's weights: of every 4 values of K, 16 pairs of the even and 16 of the odd ones.
using Expand = void (*)(const Linear&, int64_t block, int16_t* out);
constexpr int64_t kQuadWords = 64;  // int16 of 4 values

void expand_q8(const Linear& l, int64_t block, int16_t* out) {
  const uint8_t* w = l.block(block);
  for (int64_t k = 0; k < l.packing.kp; k += 4, w += 64, out += kQuadWords)
    for (int i = 0; i < 4; ++i)  // 4 channels
      for (int odd = 0; odd < 2; ++odd) store_words(out + odd * 32 + i * 8, widened(load_words(w + i * 16), odd));
}

void expand_q4(const Linear& l, int64_t block, int16_t* out) {
  for (int64_t k = 0; k < l.packing.kp; k += 32) {
    const uint8_t* pairs = l.block(block) + l.packing.nibbles_of(k);
    const int8_t* m = reinterpret_cast<const int8_t*>(l.block(block) + l.packing.multipliers_of(k));
    I16x8 multipliers[4];
    for (int n = 0; n < 16; ++n) multipliers[n / 4][n % 4 * 2] = multipliers[n / 4][n % 4 * 2 + 1] = m[n];
    for (int p = 0; p < 4; ++p, pairs += 64, out += 2 * kQuadWords)
      for (int i = 0; i < 4; ++i) {
        const U16x8 bytes = (U16x8)load_words(pairs + i * 16);
        for (int part = 0; part < 4; ++part)  // even low, even high, odd low, odd high nibbles
          store_words(out + part % 2 * kQuadWords + part / 2 * 32 + i * 8,
                      ((I16x8)(bytes >> (4 * part) & 15) - 8) * multipliers[i]);
      }
  }
}

template <int kBits>
void expand_table(const Linear& l, int64_t block, int16_t* out) {
  const uint8_t* w = l.block(block);
  for (int64_t k = 0; k < l.packing.kp; k += 32) {
    uint8_t lines[8 * 64];
    expand_levels<kBits>(l.levels(), w + l.packing.table_multipliers_of(k), w + l.packing.planes_of(k), lines);
    for (int quad = 0; quad < 8; ++quad, out += kQuadWords)
      for (int i = 0; i < 4; ++i)
        for (int odd = 0; odd < 2; ++odd)
          store_words(out + odd * 32 + i * 8, widened(load_words(lines + quad * 64 + i * 16), odd));
  }
}

// Codes of a row: of every 4 the even and the odd two.
constexpr int64_t kCodesAtOnce = 256;
struct Codes {
  alignas(16) int32_t pairs[2][kCodesAtOnce / 4];
  void widen(const int8_t* a, int64_t count) {
    for (int64_t q = 0; q < count / 4; q += 4)
      for (int odd = 0; odd < 2; ++odd) store_words(pairs[odd] + q, widened(load_words(a + q * 4), odd));
  }
};

// sums[r * 32 + n] of one block for rows `row` on.
template <int kRows>
void dot(const Linear& l, int64_t row, const int16_t* w, int32_t* sums) {
  I32x4 acc[kRows][4] = {};
  for (int64_t k = 0; k < l.packing.kp; k += kCodesAtOnce) {
    const int64_t count = smaller(kCodesAtOnce, l.packing.kp - k);
    Codes codes[kRows];
    for (int r = 0; r < kRows; ++r) codes[r].widen(l.codes(row + r) + k, count);
    for (int64_t q = 0; q < count / 4; ++q, w += kQuadWords)
#pragma GCC unroll 2
      for (int odd = 0; odd < 2; ++odd)
#pragma GCC unroll 2
        for (int r = 0; r < kRows; ++r) {
          const int32_t pair = codes[r].pairs[odd][q];
          const I16x8 both = (I16x8)I32x4{pair, pair, pair, pair};
#pragma GCC unroll 4
          for (int i = 0; i < 4; ++i)
            acc[r][i] += pair_products(load_words(w + odd * 32 + i * 8), both);
        }
  }
  for (int r = 0; r < kRows; ++r)
    for (int i = 0; i < 4; ++i) *reinterpret_cast<I32x4InMemory*>(sums + r * 32 + i * 4) = acc[r][i];
}

void run(const Command& command, const Call& call, Expand expand) {
  const Linear l(command, call.deltas);
  const Range units = share(l.units, call.thread, call.threads);
  int16_t* weights = reinterpret_cast<int16_t*>(call.scratch);
  for (int64_t unit = units.begin; unit < units.end; ++unit) {
    for (int64_t b = 0; b < l.blocks_per_unit; ++b)
      expand(l, unit * l.blocks_per_unit + b, weights + b * l.packing.kp * 16);
    const Epilogue epilogue(l, unit);
    for (int64_t row = 0; row < call.rows; row += 2) {
      const int64_t rows = smaller(2, call.rows - row);
      int32_t sums[2][32];
      for (int64_t b = 0; b < l.blocks_per_unit; ++b)
        (rows == 2 ? dot<2> : dot<1>)(l, row, weights + b * l.packing.kp * 16, sums[0] + b * 16);
      epilogue.rows_of_sums(row, rows, sums[0], 32);
    }
  }
}

}  // namespace

void linear_q8_q8b16(const Command& command, const Call& call) { run(command, call, expand_q8); }
void linear_q8_q4b16(const Command& command, const Call& call) { run(command, call, expand_q4); }
void linear_q8_t2b16(const Command& command, const Call& call) { run(command, call, expand_table<2>); }
void linear_q8_t3b16(const Command& command, const Call& call) { run(command, call, expand_table<3>); }
void linear_q8_t4b16(const Command& command, const Call& call) { run(command, call, expand_table<4>); }
void linear_q8_t5b16(const Command& command, const Call& call) { run(command, call, expand_table<5>); }
void linear_q8_t6b16(const Command& command, const Call& call) { run(command, call, expand_table<6>); }

size_t linear_q8_scratch(const Command& command, int64_t) {
  return static_cast<size_t>(Linear(command).packing.kp) * 16 * 2 * 2;
}

}  // namespace hearth::HEARTH_ISA
