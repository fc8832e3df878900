// Linears over f32 activations: each panel of weights is read as f32 (float weights as they are, codes as exact
// integers) and multiplied by fma over k in order.
#include "linear/float_tile.h"
#include "linear/grouped.h"

namespace hearth::HEARTH_ISA {
namespace {

constexpr int64_t kPanelBlocks = 4, kPanelK = 64, kRowsAtOnce = 192;
constexpr int64_t kPanelFloats = kPanelBlocks * kPanelK * 16, kSumsFloats = kRowsAtOnce * kPanelBlocks * 16;

// Reads w[k .. k + count] of one block as f32[count][16]; k is a multiple of kPanelK.
using Read = void (*)(const Linear&, const uint8_t* block, int64_t k, int64_t count, float* out);

void read_f16(const Linear&, const uint8_t* block, int64_t k, int64_t count, float* out) {
  const uint16_t* from = reinterpret_cast<const uint16_t*>(block) + k * 16;
  for (int64_t i = 0; i < count * 16; i += 16) store16(out + i, load_half16(from + i));
}

// `quads` holds 4 consecutive k of each channel as signed bytes.
void read_quads(I32x16 quads, int64_t left, float* out) {
  for (int j = 0; j < 4 && j < left; ++j)
    store16(out + j * 16, to_float((quads << (24 - 8 * j)) >> 24));
}

void read_q8(const Linear&, const uint8_t* block, int64_t k, int64_t count, float* out) {
  for (int64_t i = 0; i < count; i += 4) read_quads(load_i32(block + (k + i) * 16), count - i, out + i * 16);
}

void read_q4(const Linear& l, const uint8_t* block, int64_t k, int64_t count, float* out) {
  for (int64_t i = 0; i < count; i += 8) {
    const int8_t* m = reinterpret_cast<const int8_t*>(block + l.packing.multipliers_of(k + i));
    I8x16 narrow;
    __builtin_memcpy(&narrow, m, 16);
    const I32x16 multiplier = widen(narrow);
    const I32x16 bytes = load_i32(block + l.packing.nibbles_of(k + i));
    for (int j = 0; j < 8 && j < count - i; ++j) {
      const int shift = 8 * (j % 4) + j / 4 * 4;
      const I32x16 code = ((bytes >> shift) & 15) - 8;
      store16(out + (i + j) * 16, to_float(code * multiplier));
    }
  }
}

template <class W, int kBlocks>
void tiles(TileArgs t, int64_t rows) {
  for (; rows > 0; rows -= kTileRows) {
    switch (rows < kTileRows ? rows : kTileRows) {
      case 1: float_tile<W, 1, kBlocks>(t); break;
#if defined(__AVX2__)
      case 2: float_tile<W, 2, kBlocks>(t); break;
      case 3: float_tile<W, 3, kBlocks>(t); break;
      case 4: float_tile<W, 4, kBlocks>(t); break;
      case 5: float_tile<W, 5, kBlocks>(t); break;
      case 6: float_tile<W, 6, kBlocks>(t); break;
#endif
    }
    t.x += kTileRows * t.x_stride;
    t.sums += kTileRows * t.sums_stride;
  }
}

template <class W>
void tiles(TileArgs t, int64_t rows, int64_t blocks) {
  for (; blocks > 0; blocks -= kTileBlocks) {
    switch (blocks < kTileBlocks ? blocks : kTileBlocks) {
      case 1: tiles<W, 1>(t, rows); break;
#if defined(__AVX512F__)
      case 2: tiles<W, 2>(t, rows); break;
      case 3: tiles<W, 3>(t, rows); break;
      case 4: tiles<W, 4>(t, rows); break;
#endif
    }
    t.w += kTileBlocks * t.w_stride;
    t.sums += kTileBlocks * 16;
  }
}

// The sums of rows x blocks from the packed bytes themselves.
struct Part {
  int64_t block, blocks, row, rows;
  float* sums;  // f32[rows][kPanelBlocks * 16]
};

template <class W>
void direct_floats(const Linear& l, const Part& p) {
  TileArgs t{};
  t.x = l.x + p.row * l.x_stride, t.x_stride = l.x_stride, t.count = l.k;
  t.w = l.block(p.block), t.w_stride = l.packing.stride;
  t.sums = p.sums, t.sums_stride = kPanelBlocks * 16;
  tiles<W>(t, p.rows, p.blocks);
}

constexpr int kGroupedBlocks = HEARTH_WIDTH == 16 ? 2 : 1;  // chains of fma enough to hide its latency

template <int kBits>
void direct_grouped(const Linear& l, const Part& p) {
  for (int64_t r = 0; r < p.rows; ++r) {
    float* sums = p.sums + r * kPanelBlocks * 16;
    int64_t b = 0;
    for (; b + kGroupedBlocks <= p.blocks; b += kGroupedBlocks)
      grouped_tile<kBits, 1, kGroupedBlocks>(l, p.block + b, p.row + r, sums + b * 16, 0);
    for (; b < p.blocks; ++b) grouped_tile<kBits, 1, 1>(l, p.block + b, p.row + r, sums + b * 16, 0);
  }
}

// How a layout is multiplied: as it is where a call has few enough rows, else read into a panel of f32 first.
struct Form {
  void (*direct)(const Linear&, const Part&);
  int64_t direct_rows;
  Read read;
};
constexpr int64_t kAnyRows = int64_t{1} << 62;
constexpr Form kF32{direct_floats<float>, kAnyRows, nullptr}, kF16{direct_floats<uint16_t>, kTileRows, read_f16};
constexpr Form kQ8{nullptr, 0, read_q8}, kQ4{nullptr, 0, read_q4};
constexpr Form kG4{direct_grouped<4>, 1, read_grouped<4>}, kG8{direct_grouped<8>, 1, read_grouped<8>};

// sums f32[rows][kPanelBlocks * 16] of blocks block .. block + count.
void multiply(const Linear& l, const Form& form, bool direct, int64_t block, int64_t count, int64_t row,
              int64_t rows, float* weights, float* sums) {
  TileArgs t{};
  t.x_stride = l.x_stride, t.sums = sums, t.sums_stride = kPanelBlocks * 16;
  for (int64_t i = 0; i < rows * t.sums_stride; ++i) sums[i] = 0.0f;
  if (direct) return form.direct(l, {block, count, row, rows, sums});
  t.w = reinterpret_cast<const uint8_t*>(weights), t.w_stride = kPanelK * 64;
  for (int64_t k = 0; k < l.k; k += kPanelK) {
    t.count = smaller(kPanelK, l.k - k);
    t.x = l.x + row * l.x_stride + k * 4;
    for (int64_t b = 0; b < count; ++b) form.read(l, l.block(block + b), k, t.count, weights + b * kPanelK * 16);
    tiles<float>(t, rows, count);
  }
}

template <bool kScaled>
void run(const Command& command, const Call& call, const Form& form) {
  const Linear l(command);
  float* weights = reinterpret_cast<float*>(call.scratch);
  float* sums = weights + kPanelFloats;
  const bool direct = call.rows <= form.direct_rows;
  const int64_t panel_blocks = direct && call.rows == 1 ? 2 : kPanelBlocks;  // one row: few streams of memory
  const int64_t panel_units = panel_blocks / l.blocks_per_unit;
  const Range units = share(l.units, call.thread, call.threads);
  for (int64_t unit = units.begin; unit < units.end; unit += panel_units) {
    const int64_t count = smaller(panel_units, units.end - unit), unit_sums = l.blocks_per_unit * 16;
    for (int64_t row = 0; row < call.rows; row += kRowsAtOnce) {
      const int64_t rows = smaller(kRowsAtOnce, call.rows - row);
      multiply(l, form, direct, unit * l.blocks_per_unit, count * l.blocks_per_unit, row, rows, weights, sums);
      for (int64_t u = 0; u < count; ++u) {
        const Epilogue epilogue(l, unit + u, kScaled);
        const float* from = sums + u * unit_sums;
        for (int64_t r = 0; r < rows; ++r, from += kPanelBlocks * 16)
          epilogue.row<kScaled>(row + r, load16(from), load16(from + unit_sums - 16));
      }
    }
  }
}

}  // namespace

void linear_f32_f32b16(const Command& command, const Call& call) { run<false>(command, call, kF32); }
void linear_f32_f16b16(const Command& command, const Call& call) { run<false>(command, call, kF16); }
void linear_f32_q8b16(const Command& command, const Call& call) { run<true>(command, call, kQ8); }
void linear_f32_q4b16(const Command& command, const Call& call) { run<true>(command, call, kQ4); }
void linear_f32_g4b16(const Command& command, const Call& call) { run<false>(command, call, kG4); }
void linear_f32_g8b16(const Command& command, const Call& call) { run<false>(command, call, kG8); }

size_t linear_f32_scratch(const Command&, int64_t) { return (kPanelFloats + kSumsFloats) * sizeof(float); }

}  // namespace hearth::HEARTH_ISA
