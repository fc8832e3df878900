// Integer linears on AVX-512 VNNI: many rows here, up to eight in few_rows.h. vpdpbusd multiplies unsigned weights (bytes
// w + 128) with signed activations, and what that adds is taken off again through the sums of the activation codes.
#include <immintrin.h>

#include "linear/few_rows.h"
#include "linear/integer.h"
#include "linear/table_lines.h"

namespace hearth::HEARTH_ISA {
namespace {

__m512i load(const void* p) { return _mm512_loadu_si512(p); }
__m512i four_codes(const int8_t* a) {  // 4 codes of a row, for every channel
  int32_t word;
  __builtin_memcpy(&word, a, 4);
  return _mm512_set1_epi32(word);
}
__m512i multipliers32(const int8_t* m) {
  return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(m)));
}

struct Inner {
  static constexpr int kFewRows = 0, kTileRows = 6, kPanelBlocks = 4;
  static constexpr int64_t kPanelK = 256, kPanelLines = kPanelK / 4;
  static constexpr int32_t kWeightOffset = 128;

  // c * m + 128 of 32 values of K at a time. With n = c + 8 that is n * |m| + 128 - 8 |m|, or where m < 0, from
  // 15 - n = n ^ 15, (15 - n) * |m| + 128 - 7 |m|: products of 0 .. 225, so that one 16-bit product makes two bytes.
  static void expand_q4(const Linear& l, int64_t block, int64_t k, int64_t count, uint8_t* out, int64_t stride) {
    const __m512i lanes = _mm512_broadcast_i32x4(_mm_set_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0));
    const uint8_t* from = l.block(block);
    for (const int64_t end = k + count; k < end; k += 32) {
      const uint8_t* w = from + l.packing.nibbles_of(k);
      const __m512i m = multipliers32(reinterpret_cast<const int8_t*>(from + l.packing.multipliers_of(k)));
      const __m512i size = _mm512_abs_epi32(m), negative = _mm512_srai_epi32(m, 31);
      const __m512i sevens_or_eights = _mm512_sub_epi32(_mm512_and_si512(negative, size), _mm512_slli_epi32(size, 3));
      const __m512i offset = _mm512_shuffle_epi8(_mm512_add_epi32(sevens_or_eights, _mm512_set1_epi32(128)), lanes);
      const __m512i flip = _mm512_and_si512(negative, _mm512_set1_epi8(0x0f));
      const __m512i sizes = _mm512_or_si512(size, _mm512_slli_epi32(size, 16));
      const auto effective = [&](__m512i nibbles) {
        const __m512i codes = _mm512_ternarylogic_epi32(nibbles, _mm512_set1_epi8(0x0f), flip, 0x6a);  // (a & b) ^ c
        return _mm512_add_epi8(_mm512_mullo_epi16(codes, sizes), offset);
      };
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j, out += 2 * stride) {
        const __m512i nibbles = load(w + j * 64);
        _mm512_storeu_si512(out, effective(nibbles));
        _mm512_storeu_si512(out + stride, effective(_mm512_srli_epi16(nibbles, 4)));
      }
    }
  }

  static void expand_q8(const Linear& l, int64_t block, int64_t k, int64_t count, uint8_t* out, int64_t stride) {
    const uint8_t* w = l.block(block) + k * 16;
    const __m512i sign = _mm512_set1_epi8(static_cast<char>(0x80));
    for (int64_t i = 0; i < count / 4; ++i)
      _mm512_storeu_si512(out + i * stride, _mm512_xor_si512(load(w + i * 64), sign));
  }

  template <int kRows, int kBlocks>
  static void tile(const Tile& t) {
    __m512i acc[kRows][kBlocks];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
      for (int b = 0; b < kBlocks; ++b) acc[r][b] = load(t.sums + (r * kBlocks + b) * 16);
    const uint8_t* w = t.panel;
    const int8_t* x = t.x;
    for (int64_t q = 0; q < t.quads; ++q, w += kBlocks * 64, x += 4) {
      __m512i weights[kBlocks];
#pragma GCC unroll 8
      for (int b = 0; b < kBlocks; ++b) weights[b] = load(w + b * 64);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const __m512i codes = four_codes(x + r * t.x_stride);
#pragma GCC unroll 8
        for (int b = 0; b < kBlocks; ++b) acc[r][b] = _mm512_dpbusd_epi32(acc[r][b], weights[b], codes);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
      for (int b = 0; b < kBlocks; ++b) _mm512_storeu_si512(t.sums + (r * kBlocks + b) * 16, acc[r][b]);
  }

  static Integer<Inner>::TileFn tile_of(int64_t rows, int64_t blocks) {
#define ROW(r) {tile<r, 1>, tile<r, 2>, tile<r, 3>, tile<r, 4>}
    static constexpr Integer<Inner>::TileFn kTiles[kTileRows][kPanelBlocks] = {ROW(1), ROW(2), ROW(3),
                                                                              ROW(4), ROW(5), ROW(6)};
#undef ROW
    return kTiles[rows - 1][blocks - 1];
  }
};

using Kernel = Integer<Inner>;

template <int kBits>
void run_table(const Command& command, const Call& call) {
  if (call.rows > kFewRows) Kernel::many_rows(Linear(command, call.deltas), call, expand_table<kBits, Inner::kWeightOffset>);
  else if (call.rows > 0) few_rows_table<kBits>(Linear(command, call.deltas), call);
}

}  // namespace

void linear_q8_q4b16(const Command& command, const Call& call) {
  if (call.rows > kFewRows) Kernel::many_rows(Linear(command, call.deltas), call, Inner::expand_q4);
  else if (call.rows > 0) few_rows_q4(Linear(command, call.deltas), call);
}
void linear_q8_q8b16(const Command& command, const Call& call) {
  if (call.rows > kFewRows) Kernel::many_rows(Linear(command, call.deltas), call, Inner::expand_q8);
  else if (call.rows > 0) few_rows_q8(Linear(command, call.deltas), call);
}
void linear_q8_t2b16(const Command& command, const Call& call) { run_table<2>(command, call); }
void linear_q8_t3b16(const Command& command, const Call& call) { run_table<3>(command, call); }
void linear_q8_t4b16(const Command& command, const Call& call) { run_table<4>(command, call); }
void linear_q8_t5b16(const Command& command, const Call& call) { run_table<5>(command, call); }
void linear_q8_t6b16(const Command& command, const Call& call) { run_table<6>(command, call); }
size_t linear_q8_scratch(const Command& command, int64_t max_rows) {
  const size_t few = few_rows_scratch(command.ints[1], max_rows), many = max_rows > kFewRows ? Kernel::scratch(max_rows) : 0;
  return few > many ? few : many;
}

}  // namespace hearth::HEARTH_ISA
