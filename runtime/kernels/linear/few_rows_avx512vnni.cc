// Few rows: every 64 bytes of the weight are read once and multiplied with all rows, up to 8.
#include "linear/interleaved.h"

namespace hearth::HEARTH_ISA {
namespace {

__m512i multipliers32(const int8_t* m) {
  return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(m)));
}

// 32 values of K: low and high nibbles of 4 x 64 bytes times the rows' codes.
template <int kRows>
inline void dots_of_32(const uint8_t* w, const int8_t* a, const int32_t* starts, __m512i* dot) {
  constexpr int kPadded = padded_rows(kRows);
  const __m512i mask = _mm512_set1_epi8(0x0f);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) dot[r] = _mm512_set1_epi32(starts[r]);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    __m512i bytes = load(w + i * 64);
    asm("" : "+v"(bytes));  // one load, not one for each half
    fetch_ahead<kRows>(w + i * 64);
    const __m512i low = _mm512_and_si512(bytes, mask), high = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), mask);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) add_dot(dot[r], low, a + (2 * i * kPadded + r) * 4);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) add_dot(dot[r], high, a + ((2 * i + 1) * kPadded + r) * 4);
  }
}

// The low halves of two vectors of 32-bit values, as pairs.
inline __m512i both(__m512i first, __m512i second) {
  return _mm512_mask_blend_epi16(0xaaaaaaaa, first, _mm512_slli_epi32(second, 16));
}

// 32 values at a time, twice: such a dot, at most 32 * 8 * 127, fits 16 bits, so one vpdpwssd multiplies both. A group of
// 64 or 128 is several with the same multiplier.
template <int kRows>
void dot_q4(const Linear& l, int64_t block, const Rows& x, int32_t* sums) {
  constexpr int kPadded = padded_rows(kRows);
  const uint8_t* w = l.block(block);
  const int8_t* a = x.codes;
  const int32_t* starts = x.starts;
  const int64_t doubling = l.packing.group_log2 - 5;
  __m512i total[kRows] = {};
  for (int64_t left = l.packing.kp / 32; left > 0; left -= int64_t{4} << doubling) {
    const int8_t* m = reinterpret_cast<const int8_t*>(w);
    w += 64;
    const int64_t count = smaller(left, int64_t{4} << doubling);
    for (int64_t i = 0; kRows == 1 && i < count; i += 4) Rows::fetch_codes(a + i * 32, starts + i, (left - i) * 32, l.packing.kp);
    for (int64_t i = 0; i < count; i += 2) {
      __m512i first[kRows], second[kRows];
      dots_of_32<kRows>(w, a, starts, first);
      dots_of_32<kRows>(w + 256, a + 32 * kPadded, starts + kPadded, second);
      w += 512, a += 64 * kPadded, starts += 2 * kPadded;
      const __m512i pair = both(multipliers32(m + (i >> doubling) * 16), multipliers32(m + ((i + 1) >> doubling) * 16));
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) total[r] = _mm512_dpwssd_epi32(total[r], both(first[r], second[r]), pair);
    }
  }
  for (int r = 0; r < kRows; ++r) _mm512_storeu_si512(sums + r * 32, total[r]);
}

template <int kRows>
void dot_q8(const Linear& l, int64_t block, const Rows& x, int32_t* sums) {
  constexpr int kPadded = padded_rows(kRows);
  const uint8_t* w = l.block(block);
  const int8_t* a = x.codes;
  const __m512i sign = _mm512_set1_epi8(static_cast<char>(0x80));
  __m512i total[kRows][2];
  for (int r = 0; r < kRows; ++r) {
    total[r][0] = _mm512_set1_epi32(x.starts[r]);
    total[r][1] = _mm512_setzero_si512();
  }
  for (int64_t k = 0; k < l.packing.kp; k += 16, w += 256, a += 16 * kPadded) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const __m512i bytes = _mm512_xor_si512(load(w + i * 64), sign);
      fetch_ahead<kRows>(w + i * 64);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) add_dot(total[r][i % 2], bytes, a + (i * kPadded + r) * 4);
    }
  }
  for (int r = 0; r < kRows; ++r) _mm512_storeu_si512(sums + r * 32, _mm512_add_epi32(total[r][0], total[r][1]));
}

using Dot = void (*)(const Linear&, int64_t block, const Rows&, int32_t* sums);
#define DOTS(dot) {dot<1>, dot<2>, dot<3>, dot<4>, dot<5>, dot<6>, dot<7>, dot<8>}
constexpr Dot kDotsQ4[kFewRows] = DOTS(dot_q4), kDotsQ8[kFewRows] = DOTS(dot_q8);
#undef DOTS

}  // namespace

void few_rows_q4(const Linear& l, const Call& call) {
  static_assert(kMostRows <= 3 * kFewRows);
  const Rows x[] = {{l, call, true, 8}, {l, call, true, 8, kFewRows}, {l, call, true, 8, 2 * kFewRows}};
  few_rows(l, call, [&](int64_t block, int32_t* sums) {
    for (int64_t row = 0; row < call.rows; row += kFewRows)
      kDotsQ4[smaller(call.rows - row, kFewRows) - 1](l, block, x[row / kFewRows], sums + row * 32);
  });
}
void few_rows_q8(const Linear& l, const Call& call) {
  const Rows x(l, call, false, 128);
  few_rows(l, call, [&](int64_t block, int32_t* sums) { kDotsQ8[call.rows - 1](l, block, x, sums); });
}

size_t few_rows_scratch(int64_t k, int64_t rows) {
  const int64_t columns = round_up(k, 128);
  const int64_t padded = rows > kFewRows ? round_up(smaller(rows, kMostRows), kFewRows) : padded_rows(rows);
  return static_cast<size_t>(padded == 1 ? 2 * columns : padded * (columns + columns / 8));  // 2: codes as words
}

}  // namespace hearth::HEARTH_ISA
