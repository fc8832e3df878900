// Linears over f32 activations: each panel of weights is read as f32 (float weights as they are, codes as exact
// integers) and multiplied by fma over k in order.
#include "linear/codes.h"
#include "linear/epilogue.h"

namespace hearth::HEARTH_ISA {
namespace {

constexpr int64_t kPanelBlocks = 4, kPanelK = 512, kRowsAtOnce = 192;
constexpr int64_t kPanelFloats = kPanelBlocks * kPanelK * 16, kSumsFloats = kRowsAtOnce * kPanelBlocks * 16;

// Reads w[k .. k + count] of one block as rows of 16 floats, `step` floats apart; k is a multiple of kPanelK.
using Read = void (*)(const Linear&, const uint8_t* block, int64_t k, int64_t count, float* out, int64_t step);

void read_f16(const Linear&, const uint8_t* block, int64_t k, int64_t count, float* out, int64_t step) {
  const uint16_t* from = reinterpret_cast<const uint16_t*>(block) + k * 16;
  for (int64_t i = 0; i < count; ++i) store16(out + i * step, load_half16(from + i * 16));
}

template <class W, int kBlocks>
void tile(const TileArgs& t, [[maybe_unused]] int64_t rows) {
  switch (rows) {
    default: return float_tile<W, 1, kBlocks>(t);
#if defined(__AVX2__)
    case 2: return float_tile<W, 2, kBlocks>(t);
    case 3: return float_tile<W, 3, kBlocks>(t);
    case 4: return float_tile<W, 4, kBlocks>(t);
    case 5: return float_tile<W, 5, kBlocks>(t);
    case 6: return float_tile<W, 6, kBlocks>(t);
#endif
  }
}

template <class W>
void tile(TileArgs t, int64_t rows, int64_t blocks) {
  for (; blocks > 0; blocks -= kTileBlocks) {
    switch (blocks < kTileBlocks ? blocks : kTileBlocks) {
      case 1: tile<W, 1>(t, rows); break;
#if defined(__AVX512F__)
      case 2: tile<W, 2>(t, rows); break;
      case 3: tile<W, 3>(t, rows); break;
      case 4: tile<W, 4>(t, rows); break;
#endif
    }
    t.w += t.w_next;
    t.sums += kTileBlocks * 16;
  }
}

// Packed bytes that the panel after this one will read, about: fetched while the tiles compute.
struct Next {
  const uint8_t* from;
  int64_t stride, blocks, lines;  // of each block
  void fetch(const Range& part) const {
    for (int64_t b = 0; b < blocks; ++b)
      for (int64_t line = part.begin; line < part.end; ++line)
        __builtin_prefetch(from + b * stride + line * 64, 0, 2);
  }
};

// Rows in tiles of nearly equal height.
template <class W>
void tiles(const TileArgs& all, int64_t rows, int64_t blocks, const Next& next) {
  const int64_t count = (rows + kTileRows - 1) / kTileRows;
  for (int64_t i = 0; i < count; ++i) {
    const Range part = share(rows, i, count);
    TileArgs t = all;
    t.x += part.begin * t.x_stride;
    t.sums += part.begin * t.sums_stride;
    next.fetch(share(next.lines, i, count));
    tile<W>(t, part.end - part.begin, blocks);
  }
}

// The sums of rows x blocks: f32[rows][kPanelBlocks * 16].
struct Part {
  int64_t block, blocks, row, rows;
  float* sums;
};
constexpr int64_t kSumsStride = kPanelBlocks * 16;

// Float weights as they lie in memory, for few rows.
template <class W>
void direct_floats(const Linear& l, const Part& p) {
  for (int64_t i = 0; i < p.rows * kSumsStride; ++i) p.sums[i] = 0.0f;
  TileArgs t{};
  t.x = l.x + p.row * l.x_stride, t.x_stride = l.x_stride, t.count = l.k;
  t.w = l.block(p.block), t.w_stride = l.packing.stride, t.w_next = kTileBlocks * t.w_stride;
  t.sums = p.sums, t.sums_stride = kSumsStride;
  tiles<W>(t, p.rows, p.blocks, Next{});
}

// Few rows leave room for several blocks: chains of fma enough to hide its latency.
constexpr int blocks_at_once([[maybe_unused]] int rows) {
#if defined(__AVX512F__)
  return rows == 1 ? 4 : rows <= 4 ? 2 : 1;
#elif defined(__AVX2__)
  return rows == 1 ? 2 : 1;
#else
  return 1;
#endif
}

template <class Codes, int kRows>
void direct_rows(const Linear& l, const Part& p) {
  constexpr int kBlocks = blocks_at_once(kRows);
  int64_t b = 0;
  for (; b + kBlocks <= p.blocks; b += kBlocks)
    codes_tile<Codes, kRows, kBlocks>(l, p.block + b, p.row, p.sums + b * 16, kSumsStride);
  for (; b < p.blocks; ++b) codes_tile<Codes, kRows, 1>(l, p.block + b, p.row, p.sums + b * 16, kSumsStride);
}

template <class Codes>
void direct_codes(const Linear& l, const Part& p) {
  switch (p.rows) {
    case 1: return direct_rows<Codes, 1>(l, p);
#if defined(__AVX2__)
    case 2: return direct_rows<Codes, 2>(l, p);
    case 3: return direct_rows<Codes, 3>(l, p);
    case 4: return direct_rows<Codes, 4>(l, p);
#endif
#if defined(__AVX512F__)
    case 5: return direct_rows<Codes, 5>(l, p);
    case 6: return direct_rows<Codes, 6>(l, p);
    case 7: return direct_rows<Codes, 7>(l, p);
    case 8: return direct_rows<Codes, 8>(l, p);
#endif
  }
}

// How a layout is multiplied: as it is where a call has few enough rows, else read into a panel of f32 first (but f32,
// which is one).
struct Form {
  void (*direct)(const Linear&, const Part&);
  int64_t direct_rows;
  Read read;
};
template <class Codes>
constexpr Form kCodes{direct_codes<Codes>, kDirectRows, read_codes<Codes>};
constexpr Form kF32{direct_floats<float>, kTileRows, nullptr}, kF16{direct_floats<uint16_t>, kTileRows, read_f16};

Next next_bytes(const Linear& l, const Part& p, int64_t k) {
  const int64_t stride = l.packing.stride, next = k + kPanelK;
  const int64_t lines = (stride * smaller(kPanelK, l.k) / l.k + 63) / 64;
  if (next >= l.k) return {l.block(p.block + p.blocks), stride, p.blocks, lines};
  return {l.block(p.block) + stride * next / l.k, stride, p.blocks, lines};
}

void through_panels(const Linear& l, const Part& p, Read read, float* weights) {
  for (int64_t i = 0; i < p.rows * kSumsStride; ++i) p.sums[i] = 0.0f;
  TileArgs t{};
  t.x_stride = l.x_stride, t.sums = p.sums, t.sums_stride = kSumsStride;
  for (int64_t k = 0; k < l.k; k += kPanelK) {
    t.count = smaller(kPanelK, l.k - k);
    t.x = l.x + p.row * l.x_stride + k * 4;
    if (read) {
      for (int64_t b = 0; b < p.blocks; ++b) {
        const int64_t first = b / kTileBlocks * kTileBlocks, width = smaller(kTileBlocks, p.blocks - first);
        read(l, l.block(p.block + b), k, t.count, weights + first * kPanelK * 16 + (b - first) * 16, width * 16);
      }
      t.w = reinterpret_cast<const uint8_t*>(weights), t.w_next = kTileBlocks * kPanelK * 64;
      tiles<PanelFloats>(t, p.rows, p.blocks, next_bytes(l, p, k));
    } else {
      t.w = l.block(p.block) + k * 64, t.w_stride = l.packing.stride, t.w_next = kTileBlocks * t.w_stride;
      tiles<float>(t, p.rows, p.blocks, next_bytes(l, p, k));
    }
  }
}

template <bool kScaled>
void run(const Command& command, const Call& call, const Form& form) {
  const Linear l(command, call.deltas);
  float* weights = reinterpret_cast<float*>(call.scratch);
  float* sums = weights + kPanelFloats;
  const bool direct = call.rows <= form.direct_rows;
  const int64_t panel_units = kPanelBlocks / l.blocks_per_unit, chunks = (call.rows + kRowsAtOnce - 1) / kRowsAtOnce;
  const Range units = share(l.units, call.thread, call.threads);
  for (int64_t unit = units.begin; unit < units.end; unit += panel_units) {
    const int64_t count = smaller(panel_units, units.end - unit);
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      const Range rows = share(call.rows, chunk, chunks);
      const Part part{unit * l.blocks_per_unit, count * l.blocks_per_unit, rows.begin, rows.end - rows.begin, sums};
      if (direct) form.direct(l, part);
      else through_panels(l, part, form.read, weights);
      finish_units<kScaled>(l, unit, count, part.row, part.rows, FloatSums{sums, kSumsStride});
    }
  }
}

}  // namespace

void linear_f32_f32b16(const Command& command, const Call& call) { run<false>(command, call, kF32); }
void linear_f32_f16b16(const Command& command, const Call& call) { run<false>(command, call, kF16); }
void linear_f32_q8b16(const Command& command, const Call& call) { run<true>(command, call, kCodes<Q8Codes>); }
void linear_f32_q4b16(const Command& command, const Call& call) { run<true>(command, call, kCodes<Q4Codes>); }
void linear_f32_g4b16(const Command& command, const Call& call) { run<false>(command, call, kCodes<GroupedCodes<4>>); }
void linear_f32_g8b16(const Command& command, const Call& call) { run<false>(command, call, kCodes<GroupedCodes<8>>); }
void linear_f32_t2b16(const Command& command, const Call& call) { run<true>(command, call, kCodes<TableCodes<2>>); }
void linear_f32_t3b16(const Command& command, const Call& call) { run<true>(command, call, kCodes<TableCodes<3>>); }
void linear_f32_t4b16(const Command& command, const Call& call) { run<true>(command, call, kCodes<TableCodes<4>>); }
void linear_f32_t5b16(const Command& command, const Call& call) { run<true>(command, call, kCodes<TableCodes<5>>); }
void linear_f32_t6b16(const Command& command, const Call& call) { run<true>(command, call, kCodes<TableCodes<6>>); }

size_t linear_f32_scratch(const Command&, int64_t) { return (kPanelFloats + kSumsFloats) * sizeof(float); }

}  // namespace hearth::HEARTH_ISA
