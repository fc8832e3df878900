// What products of few rows share on AVX-512 VNNI: the rows' codes, interleaved.
//
// One row waits for memory alone. Four rows are as many vpdpbusd (one a cycle) as a core's share of memory lasts, so
// nothing may come in their way: the rows' codes are interleaved in scratch, where one address serves them all as memory
// operands, and lines are asked for long before they are used, since such work hides too little latency by itself.
#pragma once

#include <immintrin.h>

#include "linear/epilogue.h"
#include "linear/few_rows.h"

namespace hearth::HEARTH_ISA {

static inline __m512i load(const void* p) { return _mm512_loadu_si512(p); }

// Rows lie interleaved as 1, 4 or 8, the last one repeated.
static constexpr int padded_rows(int64_t rows) { return rows == 1 ? 1 : rows <= 4 ? 4 : 8; }

// to[i][first .. first + 4) = factor times the i-th number of each of four rows; count is a multiple of 4.
static inline void interleave_four(const int32_t* const* from, int64_t count, int32_t factor, int64_t padded, int32_t* to) {
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

// What the dots read of x, in scratch: of kFewRows rows from `first` on, or as many as there are; of none, nothing.
// Unsigned weights are `offset` too large, so a sum starts at -offset times that of the codes: of each 32 (q4) or of the
// whole row (q8).
struct Rows {
  const int8_t* codes;    // [columns / 4][padded][4]
  const int32_t* starts;  // [columns / 32 or 1][padded]

  Rows(const Linear& l, const Call& call, bool of_each_32, int32_t offset, int64_t first = 0) : first_(first) {
    const int64_t rows = smaller(call.rows - first, kFewRows), columns = round_up(l.k, 128);
    int32_t* const to = reinterpret_cast<int32_t*>(call.scratch) + first * (columns / 32 + columns / 4);
    int32_t* const quads = to + padded_rows(rows) * columns / 32;
    starts = to;
    codes = rows == 1 ? l.codes(first) : reinterpret_cast<const int8_t*>(quads);
    if (rows > 0 && !call.again) lay_out(l, rows, of_each_32, offset, to, quads);
  }

  // Beside a stream of weights a long row does not stay in L1: asks for 128 codes of the only row and their starts, a little
  // ahead of `left` codes before the end of a block, or of where the next one begins.
  static void fetch_codes(const int8_t* a, const int32_t* starts, int64_t left, int64_t kp) {
    constexpr int64_t kAhead = 192;
    const int64_t ahead = left > kAhead ? kAhead : kAhead - kp;
    __builtin_prefetch(a + ahead);
    __builtin_prefetch(a + ahead + 64);
    __builtin_prefetch(starts + ahead / 32);
  }

 private:
  const int64_t first_;

  void lay_out(const Linear& l, int64_t rows, bool of_each_32, int32_t offset, int32_t* to,
               int32_t* quads) const {
    const int64_t padded = padded_rows(rows), columns = round_up(l.k, 128);
    if (!of_each_32)
      for (int64_t r = 0; r < padded; ++r) to[r] = int32_t(-uint32_t(offset) * uint32_t(l.sum_of_codes(at(r, rows))));
    else if (rows == 1)
      for (int64_t i = 0; i < columns / 32; ++i) to[i] = int32_t(-uint32_t(offset) * uint32_t(l.sums(first_)[i]));
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
  int64_t at(int64_t r, int64_t rows) const { return first_ + smaller(r, rows - 1); }
};

// sum += unsigned bytes x four codes, the same for every channel. The codes stay a memory operand: loaded on their own, they
// take a third of the instructions that a core can look ahead.
static inline void add_dot(__m512i& sum, __m512i bytes, const int8_t* codes) {
  typedef int32_t Four __attribute__((may_alias, aligned(1)));
  asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(bytes), "m"(*reinterpret_cast<const Four*>(codes)));
}

// One and two rows are a stream that the hardware follows by itself, and better alone. From three on it is fetched to L2
// and then to L1: what only L1 waits for is limited by its 24 or fewer outstanding lines.
template <int kRows>
static inline void fetch_ahead(const uint8_t* w) {
  if (kRows < 3) return;
  __builtin_prefetch(w + 4096, 0, 3);
  __builtin_prefetch(w + 16384, 0, 2);
}

// dot(block, sums) makes the sums of one block, those of a row 32 after those of the row before.
template <class Dot>
static inline void few_rows(const Linear& l, const Call& call, Dot dot) {
  const Range units = share(l.units, call.thread, call.threads);
  for (int64_t unit = units.begin; unit < units.end; ++unit) {
    int32_t sums[kMostRows][32];
    l.fetch_ends(unit);
    for (int64_t b = 0; b < l.blocks_per_unit; ++b) dot(unit * l.blocks_per_unit + b, sums[0] + b * 16);
    const Epilogue epilogue(l, unit);
    epilogue.rows_of_sums(0, call.rows, sums[0], 32);
  }
}

}  // namespace hearth::HEARTH_ISA
