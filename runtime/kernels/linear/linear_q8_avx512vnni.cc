// Integer linears on AVX-512 VNNI: many rows here, up to eight in few_rows.h. vpdpbusd multiplies unsigned weights (bytes
// w + 128) with signed activations, and what that adds is taken off again through the sums of the activation codes.
//
// int4 is expanded by the first rows' tile, a line at a time between products: the units that do not multiply do most of
// it, and what waits for memory has company. docs/kernels.md has the cycles.
#include <immintrin.h>

#include "linear/few_rows.h"
#include "linear/integer.h"
#include "linear/table_lines.h"

namespace hearth::HEARTH_ISA {
namespace {

constexpr int kPanelBlocks = 4, kFirstRows = 4;  // kFirstRows: of the tile that expands; more leave no registers for that
static_assert(kFirstRows <= kFewRows);           // fewer rows never get here

__m512i load(const void* p) { return _mm512_loadu_si512(p); }
__m512i four_codes(const int8_t* a) {  // 4 codes of a row, for every channel
  int32_t word;
  __builtin_memcpy(&word, a, 4);
  return _mm512_set1_epi32(word);
}

// Sums of kRows rows x kBlocks blocks, in registers until they are stored.
template <int kRows, int kBlocks>
class Sums {
 public:
  [[gnu::always_inline]] explicit Sums(int32_t* at) : at_(at) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
      for (int b = 0; b < kBlocks; ++b) acc_[r][b] = load(at + (r * kBlocks + b) * 16);
  }
  [[gnu::always_inline]] void store() const {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
      for (int b = 0; b < kBlocks; ++b) _mm512_storeu_si512(at_ + (r * kBlocks + b) * 16, acc_[r][b]);
  }
  [[gnu::always_inline]] void add(int r, int b, __m512i weights, __m512i codes) {
    acc_[r][b] = _mm512_dpbusd_epi32(acc_[r][b], weights, codes);
  }

 private:
  int32_t* at_;
  __m512i acc_[kRows][kBlocks];
};

template <int kRows, int kBlocks>
void tile(const Tile& t) {
  Sums<kRows, kBlocks> sums(t.sums);
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
      for (int b = 0; b < kBlocks; ++b) sums.add(r, b, weights[b], codes);
    }
  }
  sums.store();
}

// What the channels of a block make of the nibbles n = c + 8 of a group: bytes c * m + 128, which are
// n * |m| + 128 - 8 |m|, or where m < 0, from 15 - n = n ^ 15, (15 - n) * |m| + 128 - 7 |m|: products of 0 .. 225, so that
// one 16-bit product makes two bytes.
struct Group {
  __m512i flip, size, offset;

  [[gnu::always_inline]] explicit Group(const uint8_t* multipliers) {
    const __m512i each = _mm512_set_epi32(0x0f0f0f0f, 0x0e0e0e0e, 0x0d0d0d0d, 0x0c0c0c0c, 0x0b0b0b0b, 0x0a0a0a0a,
                                          0x09090909, 0x08080808, 0x07070707, 0x06060606, 0x05050505, 0x04040404,
                                          0x03030303, 0x02020202, 0x01010101, 0);
    const __m512i m = _mm512_shuffle_epi8(
        _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(multipliers))), each);
    const __m512i sizes = _mm512_abs_epi8(m), eights = _mm512_slli_epi16(sizes, 3);
    const __m512i offsets = _mm512_sub_epi8(_mm512_set1_epi8(-128), eights);
    const __mmask64 negative = _mm512_movepi8_mask(m);
    flip = _mm512_maskz_mov_epi8(negative, _mm512_set1_epi8(0x0f));
    size = _mm512_and_si512(sizes, _mm512_set1_epi16(0x00ff));
    offset = _mm512_mask_add_epi8(offsets, negative, offsets, sizes);
  }
  [[gnu::always_inline]] __m512i bytes(__m512i nibbles) const {
    const __m512i codes = _mm512_ternarylogic_epi32(nibbles, _mm512_set1_epi8(0x0f), flip, 0x6a);  // (a & b) ^ c
    return _mm512_add_epi8(_mm512_mullo_epi16(codes, size), offset);
  }
  // Of the lower or the upper nibbles of a line.
  template <int kHalf>
  [[gnu::always_inline]] __m512i half(const uint8_t* w) const {
    return bytes(kHalf ? _mm512_srli_epi16(load(w), 4) : load(w));
  }
};

// Panels for many rows are long, so that sums are stored and loaded seldom; their lines come from L2 as fast as they are
// multiplied. Those for fewer rows stay in L1.
struct Nibbles {
  static constexpr int64_t kPanelK = 2048;
  using FirstSums = Sums<kFirstRows, kPanelBlocks>;

  static void expand(const Linear& l, int64_t block, int64_t k, int64_t count, uint8_t* out, int64_t stride) {
    const uint8_t* from = l.block(block);
    for (const int64_t end = k + count; k < end; k += 32) {
      const uint8_t* w = from + l.packing.nibbles_of(k);
      const Group group(from + l.packing.multipliers_of(k));
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j, out += 2 * stride) {
        _mm512_storeu_si512(out, group.half<0>(w + j * 64));
        _mm512_storeu_si512(out + stride, group.half<1>(w + j * 64));
      }
    }
  }

  // The first rows of a whole panel, which is expanded meanwhile.
  static int64_t expand_and_multiply(const Linear& l, int64_t block, int64_t k, const Tile& t) {
    FirstSums sums(t.sums);
    const uint8_t* const from = l.block(block);
    const int64_t stride = l.packing.stride;
    uint8_t* out = t.panel;
    const int8_t* x = t.x;
    for (const int64_t end = k + t.quads * 4; k < end; k += 32) {
      const uint8_t* w = from + l.packing.nibbles_of(k);
      const uint8_t* m = from + l.packing.multipliers_of(k);
      const Group groups[] = {Group(m), Group(m + stride), Group(m + 2 * stride), Group(m + 3 * stride)};
      for (int j = 0; j < 4; ++j, w += 64) {
        add_quad<0>(sums, groups, w, stride, out, x, t.x_stride);
        add_quad<1>(sums, groups, w, stride, out + kPanelBlocks * 64, x + 4, t.x_stride);
        out += kPanelBlocks * 128, x += 8;
      }
    }
    sums.store();
    return kFirstRows;
  }

 private:
  template <int kHalf>
  [[gnu::always_inline]] static inline void add_quad(FirstSums& sums, const Group* groups, const uint8_t* w,
                                                     int64_t stride, uint8_t* out, const int8_t* x, int64_t x_stride) {
#pragma GCC unroll 8
    for (int b = 0; b < kPanelBlocks; ++b) {
      const __m512i weights = groups[b].template half<kHalf>(w + b * stride);
      _mm512_storeu_si512(out + b * 64, weights);
#pragma GCC unroll 8
      for (int r = 0; r < kFirstRows; ++r) sums.add(r, b, weights, four_codes(x + r * x_stride));
    }
  }
};

struct Bytes {
  static constexpr int64_t kPanelK = 256;

  static void expand(const Linear& l, int64_t block, int64_t k, int64_t count, uint8_t* out, int64_t stride) {
    const uint8_t* w = l.block(block) + k * 16;
    const __m512i sign = _mm512_set1_epi8(static_cast<char>(0x80));
    for (int64_t i = 0; i < count / 4; ++i)
      _mm512_storeu_si512(out + i * stride, _mm512_xor_si512(load(w + i * 64), sign));
  }
};

template <int kBits>
struct Tables {
  static constexpr int64_t kPanelK = 256;

  static void expand(const Linear& l, int64_t block, int64_t k, int64_t count, uint8_t* out, int64_t stride) {
    expand_table<kBits, 128>(l, block, k, count, out, stride);
  }
};

template <class Weights>
struct Inner {
  static constexpr int kFewRows = 0, kTileRows = 6, kPanelBlocks = HEARTH_ISA::kPanelBlocks;
  static constexpr int64_t kPanelK = Weights::kPanelK, kPanelLines = kPanelK / 4;
  static constexpr int32_t kWeightOffset = 128;

  static constexpr int64_t panel_k(int64_t rows) { return rows > 48 ? kPanelK : smaller(256, kPanelK); }

  static int64_t expand(const Linear& l, int64_t block, int64_t blocks, int64_t k, const Tile& t) {
    if constexpr (requires { Weights::expand_and_multiply; })
      if (blocks == kPanelBlocks) return Weights::expand_and_multiply(l, block, k, t);
    for (int64_t b = 0; b < blocks; ++b) Weights::expand(l, block + b, k, t.quads * 4, t.panel + b * 64, blocks * 64);
    return 0;
  }

  static auto tile_of(int64_t rows, int64_t blocks) {
#define ROW(r) {tile<r, 1>, tile<r, 2>, tile<r, 3>, tile<r, 4>}
    static constexpr void (*kTiles[kTileRows][kPanelBlocks])(const Tile&) = {ROW(1), ROW(2), ROW(3),
                                                                             ROW(4), ROW(5), ROW(6)};
#undef ROW
    return kTiles[rows - 1][blocks - 1];
  }
};

template <class Weights>
void many_rows(const Command& command, const Call& call) {
  Integer<Inner<Weights>>::many_rows(Linear(command, call.deltas), call);
}

template <int kBits>
void run_table(const Command& command, const Call& call) {
  if (call.rows > kFewRows) many_rows<Tables<kBits>>(command, call);
  else if (call.rows > 0) few_rows_table<kBits>(Linear(command, call.deltas), call);
}

}  // namespace

void linear_q8_q4b16(const Command& command, const Call& call) {
  if (call.rows > kMostRows) many_rows<Nibbles>(command, call);
  else if (call.rows > 0) few_rows_q4(Linear(command, call.deltas), call);
}
void linear_q8_q8b16(const Command& command, const Call& call) {
  if (call.rows > kFewRows) many_rows<Bytes>(command, call);
  else if (call.rows > 0) few_rows_q8(Linear(command, call.deltas), call);
}
void linear_q8_t2b16(const Command& command, const Call& call) { run_table<2>(command, call); }
void linear_q8_t3b16(const Command& command, const Call& call) { run_table<3>(command, call); }
void linear_q8_t4b16(const Command& command, const Call& call) { run_table<4>(command, call); }
void linear_q8_t5b16(const Command& command, const Call& call) { run_table<5>(command, call); }
void linear_q8_t6b16(const Command& command, const Call& call) { run_table<6>(command, call); }
size_t linear_q8_scratch(const Command& command, int64_t max_rows) {
  const auto ints = ints_of<LinearInts>(command);
  const size_t few = few_rows_scratch(ints.k, max_rows);
  if (max_rows <= kFewRows) return few;
  const size_t many = ints.layout == kQ4B16 ? Integer<Inner<Nibbles>>::scratch(max_rows)
                                            : Integer<Inner<Bytes>>::scratch(max_rows);
  return few > many ? few : many;
}

}  // namespace hearth::HEARTH_ISA
