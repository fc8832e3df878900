// Integer linears on AVX-512 VNNI. vpdpbusd multiplies unsigned weights with signed activations: nibbles are
// code + 8, bytes w + 128, and what that adds is taken off again through the sums of the activation codes.
#include <immintrin.h>

#include "linear/integer.h"

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
  static constexpr int kFewRows = 8, kTileRows = 6, kPanelBlocks = 4;
  static constexpr int64_t kPanelK = 256, kPanelLines = kPanelK / 4;
  static constexpr int32_t kWeightOffset = 128;

  // Groups of 32, 64 or 128 in steps of 32 values. High nibbles stay in place, so their sums are 16 times as large.
  template <int kRows>
  static void dot_q4(const Linear& l, int64_t block, const int32_t*, int32_t* sums) {
    const uint8_t* w = l.block(block);
    const int8_t* a = l.codes(0);
    const int32_t* a_sums = l.sums(0);
    const int64_t sums_stride = l.x_stride / 4, steps = l.packing.kp / 32, steps_per_group = l.group / 32;
    const __m512i low_mask = _mm512_set1_epi8(0x0f), high_mask = _mm512_set1_epi8(static_cast<char>(0xf0));
    __m512i total[kRows] = {};
    for (int64_t step = 0; step < steps;) {
      const int8_t* m = reinterpret_cast<const int8_t*>(w);
      w += 64;
      for (const int64_t end = smaller(steps, step + 4 * steps_per_group); step < end; m += 16)
        for (int64_t i = 0; i < steps_per_group; ++i, ++step, w += 256, a += 32, ++a_sums) {
          __m512i low[kRows], high[kRows];
#pragma GCC unroll 8
          for (int r = 0; r < kRows; ++r) {
            low[r] = _mm512_set1_epi32(nibble_offset(a_sums[r * sums_stride]));
            high[r] = _mm512_setzero_si512();
          }
          products<kRows>(w, a, l.x_stride, low_mask, high_mask, low, high);
          const __m512i multiplier = multipliers32(m);
#pragma GCC unroll 8
          for (int r = 0; r < kRows; ++r) {
            const __m512i dot = _mm512_add_epi32(low[r], _mm512_srai_epi32(high[r], 4));
            total[r] = _mm512_add_epi32(total[r], _mm512_mullo_epi32(dot, multiplier));
          }
        }
    }
    for (int r = 0; r < kRows; ++r) _mm512_storeu_si512(sums + r * 32, total[r]);
  }

  // 32 values of K: low and high nibbles of 4 x 64 bytes times the rows' codes.
  template <int kRows>
  static inline void products(const uint8_t* w, const int8_t* a, int64_t a_stride, __m512i low_mask,
                              __m512i high_mask, __m512i* low, __m512i* high) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      __m512i bytes = load(w + i * 64);
      asm("" : "+v"(bytes));  // one load, not one for each half
      // With so much to do per line, the core no longer runs far enough ahead for the hardware to follow.
      if (kRows > 4) __builtin_prefetch(w + i * 64 + 4096);
      const __m512i low_w = _mm512_and_si512(bytes, low_mask), high_w = _mm512_and_si512(bytes, high_mask);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const int8_t* codes = a + r * a_stride + i * 8;
        low[r] = _mm512_dpbusd_epi32(low[r], low_w, four_codes(codes));
        high[r] = _mm512_dpbusd_epi32(high[r], high_w, four_codes(codes + 4));
      }
    }
  }

  template <int kRows>
  static void dot_q8(const Linear& l, int64_t block, const int32_t* starts, int32_t* sums) {
    const uint8_t* w = l.block(block);
    const int8_t* a = l.codes(0);
    const __m512i sign = _mm512_set1_epi8(static_cast<char>(0x80));
    __m512i total[kRows][2];
    for (int r = 0; r < kRows; ++r) {
      total[r][0] = _mm512_set1_epi32(starts[r]);
      total[r][1] = _mm512_setzero_si512();
    }
    for (int64_t k = 0; k < l.packing.kp; k += 16, w += 256, a += 16) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const __m512i bytes = _mm512_xor_si512(load(w + i * 64), sign);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r)
          total[r][i % 2] = _mm512_dpbusd_epi32(total[r][i % 2], bytes, four_codes(a + r * l.x_stride + i * 4));
      }
    }
    for (int r = 0; r < kRows; ++r) _mm512_storeu_si512(sums + r * 32, _mm512_add_epi32(total[r][0], total[r][1]));
  }

  // code * m + 128 as (code + 8) * m + (128 - 8 m), bytes modulo 256: even and odd bytes by 16-bit products.
  static void expand_q4(const Linear& l, int64_t block, int64_t k, int64_t count, uint8_t* out, int64_t stride) {
    const __m512i even = _mm512_set1_epi16(0x000f), odd = _mm512_set1_epi16(0x0f00), byte = _mm512_set1_epi16(0xff);
    const __m512i lanes = _mm512_broadcast_i32x4(_mm_set_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0));
    const __m512i pairs = _mm512_broadcast_i32x4(_mm_set_epi32(0x0d0c0d0c, 0x09080908, 0x05040504, 0x01000100));
    for (const int64_t end = k + count; k < end; k += 32) {
      const uint8_t* w = l.block(block) + l.packing.nibbles_of(k);
      const __m512i m32 = multipliers32(reinterpret_cast<const int8_t*>(l.block(block) + l.packing.multipliers_of(k)));
      const __m512i m16 = _mm512_shuffle_epi8(m32, pairs);
      const __m512i offset =
          _mm512_shuffle_epi8(_mm512_sub_epi32(_mm512_set1_epi32(128), _mm512_slli_epi32(m32, 3)), lanes);
      const auto effective = [&](__m512i nibbles) {
        const __m512i low = _mm512_mullo_epi16(_mm512_and_si512(nibbles, even), m16);
        const __m512i high = _mm512_mullo_epi16(_mm512_and_si512(nibbles, odd), m16);
        return _mm512_add_epi8(_mm512_ternarylogic_epi32(low, byte, high, 0xea), offset);
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
#define DOTS(dot) {dot<1>, dot<2>, dot<3>, dot<4>, dot<5>, dot<6>, dot<7>, dot<8>}
constexpr Kernel::Dot kDotsQ4[] = DOTS(Inner::dot_q4), kDotsQ8[] = DOTS(Inner::dot_q8);
#undef DOTS

}  // namespace

void linear_q8_q4b16(const Command& command, const Call& call) {
  Kernel::run(command, call, kDotsQ4, Inner::expand_q4);
}
void linear_q8_q8b16(const Command& command, const Call& call) {
  Kernel::run(command, call, kDotsQ8, Inner::expand_q8);
}
size_t linear_q8_scratch(const Command&, int64_t max_rows) { return Kernel::scratch(max_rows); }

}  // namespace hearth::HEARTH_ISA
