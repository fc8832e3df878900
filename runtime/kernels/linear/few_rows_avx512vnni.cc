// Few rows: every 64 bytes of the weight are read once and multiplied with all rows.
//
// One row waits for memory alone. Four rows are as many vpdpbusd (one a cycle) as a core's share of memory lasts, so
// nothing may come in their way: the rows' codes are interleaved in scratch, where one address serves them all as memory
// operands, and lines are asked for long before they are used, since such work hides too little latency by itself.
#include <immintrin.h>

#include "linear/epilogue.h"
#include "linear/few_rows.h"

namespace hearth::HEARTH_ISA {
namespace {

__m512i load(const void* p) { return _mm512_loadu_si512(p); }
__m512i multipliers32(const int8_t* m) {
  return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(m)));
}

// Rows lie interleaved as 1, 4 or 8, the last one repeated.
constexpr int padded_rows(int64_t rows) { return rows == 1 ? 1 : rows <= 4 ? 4 : 8; }

// to[i][first .. first + 4) = factor times the i-th number of each of four rows; count is a multiple of 4.
void interleave_four(const int32_t* const* from, int64_t count, int32_t factor, int64_t padded, int32_t* to) {
  const __m128i times = _mm_set1_epi32(factor);
  for (int64_t i = 0; i < count; i += 4, to += 4 * padded) {
    __m128i row[4];
    for (int r = 0; r < 4; ++r) row[r] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from[r] + i));
    const __m128i low01 = _mm_unpacklo_epi32(row[0], row[1]), low23 = _mm_unpacklo_epi32(row[2], row[3]);
    const __m128i high01 = _mm_unpackhi_epi32(row[0], row[1]), high23 = _mm_unpackhi_epi32(row[2], row[3]);
    const __m128i four[4] = {_mm_unpacklo_epi64(low01, low23), _mm_unpackhi_epi64(low01, low23),
                             _mm_unpacklo_epi64(high01, high23), _mm_unpackhi_epi64(high01, high23)};
    for (int j = 0; j < 4; ++j)
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to + j * padded), _mm_mullo_epi32(four[j], times));
  }
}

// What the dots read of x, in scratch. Unsigned weights are `offset` too large, so a sum starts at -offset times that of
// the codes: of each 32 (q4) or of the whole row (q8).
struct Rows {
  const int8_t* codes;    // [columns / 4][padded][4]
  const int32_t* starts;  // [columns / 32 or 1][padded]

  Rows(const Linear& l, const Call& call, bool of_each_32, int32_t offset) {
    const int64_t rows = call.rows, padded = padded_rows(rows), columns = round_up(l.k, 128);
    int32_t* to = reinterpret_cast<int32_t*>(call.scratch);
    starts = to;
    codes = l.codes(0);
    if (!of_each_32)
      for (int64_t r = 0; r < padded; ++r) to[r] = int32_t(-uint32_t(offset) * uint32_t(l.sum_of_codes(at(r, rows))));
    else if (rows == 1)
      for (int64_t i = 0; i < columns / 32; ++i) to[i] = int32_t(-uint32_t(offset) * uint32_t(l.sums(0)[i]));
    int32_t* quads = to + padded * columns / 32;
    if (rows > 1) codes = reinterpret_cast<const int8_t*>(quads);
    for (int64_t r = 0; rows > 1 && r < padded; r += 4) {
      const int32_t *sums[4], *fours[4];
      for (int64_t i = 0; i < 4; ++i) {
        sums[i] = l.sums(at(r + i, rows));
        fours[i] = reinterpret_cast<const int32_t*>(l.codes(at(r + i, rows)));
      }
      if (of_each_32) interleave_four(sums, columns / 32, -offset, padded, to + r);
      interleave_four(fours, columns / 4, 1, padded, quads + r);
    }
  }
  static int64_t at(int64_t r, int64_t rows) { return smaller(r, rows - 1); }
};

// sum += unsigned bytes x four codes, the same for every channel. The codes stay a memory operand: loaded on their own, they
// take a third of the instructions that a core can look ahead.
inline void add_dot(__m512i& sum, __m512i bytes, const int8_t* codes) {
  typedef int32_t Four __attribute__((may_alias, aligned(1)));
  asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(bytes), "m"(*reinterpret_cast<const Four*>(codes)));
}

// One and two rows are a stream that the hardware follows by itself, and better alone. From three on it is fetched to L2
// and then to L1: what only L1 waits for is limited by its 24 or fewer outstanding lines.
template <int kRows>
inline void fetch_ahead(const uint8_t* w) {
  if (kRows < 3) return;
  __builtin_prefetch(w + 4096, 0, 3);
  __builtin_prefetch(w + 16384, 0, 2);
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

void run(const Linear& l, const Call& call, const Rows& x, Dot dot) {
  const Range units = share(l.units, call.thread, call.threads);
  for (int64_t unit = units.begin; unit < units.end; ++unit) {
    int32_t sums[kFewRows][32];
    for (int64_t b = 0; b < l.blocks_per_unit; ++b) dot(l, unit * l.blocks_per_unit + b, x, sums[0] + b * 16);
    const Epilogue epilogue(l, unit);
    epilogue.rows_of_sums(0, call.rows, sums[0], 32);
  }
}

}  // namespace

void few_rows_q4(const Linear& l, const Call& call) { run(l, call, Rows(l, call, true, 8), kDotsQ4[call.rows - 1]); }
void few_rows_q8(const Linear& l, const Call& call) { run(l, call, Rows(l, call, false, 128), kDotsQ8[call.rows - 1]); }

size_t few_rows_scratch(int64_t k, int64_t rows) {
  const int64_t columns = round_up(k, 128);
  return static_cast<size_t>(padded_rows(smaller(rows, kFewRows)) * (columns + columns / 8));
}

}  // namespace hearth::HEARTH_ISA
