// The integer linears' two ways through a weight, over an ISA's inner loops (struct Inner):
//
//   few rows   one pass over the packed bytes, at the speed of memory
//   many rows  panels of kPanelBlocks blocks x kPanelK values, expanded to effective int8 weights in scratch, times
//              all rows; sums stay in scratch between the panels of K, so nothing but integers is added
//
// Inner has: kFewRows, kTileRows, kPanelBlocks, kPanelK, kWeightOffset (what the panel's bytes are above w);
//   dots of 1 .. kFewRows rows (l, block, sums)            sums of one block for all rows
//   expand_q4, expand_q8 (l, block, k, count, out)          K values k .. k + count into out[count / 4][stride]
//   tile<kRows, kBlocks> (Tile)                             sums += panel x rows
#pragma once

#include "linear/parts.h"

namespace hearth::HEARTH_ISA {

struct Tile {
  const uint8_t* panel;  // [quads][kBlocks][16][4]
  const int8_t* x;       // codes, rows x_stride bytes apart
  int64_t x_stride;
  int32_t* sums;  // [rows][kBlocks * 16]
  int64_t quads;
};

template <class Inner>
struct Integer {
  using Dot = void (*)(const Linear&, int64_t block, I32x16* sums);
  using Expand = void (*)(const Linear&, int64_t block, int64_t k, int64_t count, uint8_t* out, int64_t stride);
  using TileFn = void (*)(const Tile&);
  static constexpr int64_t kRowsAtOnce = 192, kPanelNbytes = Inner::kPanelK * Inner::kPanelBlocks * 16;

  static size_t scratch(int64_t max_rows) {
    return static_cast<size_t>(kPanelNbytes + smaller(max_rows, kRowsAtOnce) * Inner::kPanelBlocks * 64);
  }

  static void run(const Command& command, const Call& call, const Dot* dots, Expand expand) {
    const Linear l(command);
    if (call.rows == 0) return;
    if (call.rows <= Inner::kFewRows) few_rows(l, call, dots);
    else many_rows(l, call, expand);
  }

  // dots[r - 1] serves r rows. No prefetching by hand: a block is one stream, which the hardware follows.
  static void few_rows(const Linear& l, const Call& call, const Dot* dots) {
    const Range units = share(l.units, call.thread, call.threads);
    for (int64_t unit = units.begin; unit < units.end; ++unit) {
      I32x16 sums[2][Inner::kFewRows];
      for (int64_t b = 0; b < l.blocks_per_unit; ++b)
        dots[call.rows - 1](l, unit * l.blocks_per_unit + b, sums[b]);
      for (int64_t row = 0; row < call.rows; ++row) {
        I32x16 of_row[2] = {};
        for (int64_t b = 0; b < l.blocks_per_unit; ++b) of_row[b] = sums[b][row];
        finish_sums(l, row, unit, of_row);
      }
    }
  }

  static void many_rows(const Linear& l, const Call& call, Expand expand) {
    const int64_t panel_units = Inner::kPanelBlocks / l.blocks_per_unit;
    const Range units = share(l.units, call.thread, call.threads);
    for (int64_t unit = units.begin; unit < units.end; unit += panel_units) {
      const int64_t count = smaller(panel_units, units.end - unit);
      for (int64_t row = 0; row < call.rows; row += kRowsAtOnce)
        panel(l, unit, count, row, smaller(kRowsAtOnce, call.rows - row), expand, call.scratch);
    }
  }

  static void panel(const Linear& l, int64_t unit, int64_t units, int64_t row, int64_t rows, Expand expand,
                    std::byte* scratch) {
    const int64_t first = unit * l.blocks_per_unit, blocks = units * l.blocks_per_unit;
    uint8_t* weights = reinterpret_cast<uint8_t*>(scratch);
    int32_t* sums = reinterpret_cast<int32_t*>(weights + kPanelNbytes);
    start_sums(l, row, rows, blocks, sums);
    for (int64_t k = 0; k < l.packing.kp; k += Inner::kPanelK) {
      const int64_t count = smaller(Inner::kPanelK, l.packing.kp - k);
      for (int64_t b = 0; b < blocks; ++b) expand(l, first + b, k, count, weights + b * 64, blocks * 64);
      tiles(Tile{weights, l.codes(row) + k, l.x_stride, sums, count / 4}, rows, blocks, next_bytes(l, first, blocks, k));
    }
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t u = 0; u < units; ++u) {
        I32x16 of_row[2] = {};
        __builtin_memcpy(of_row, sums + (r * units + u) * l.blocks_per_unit * 16, l.blocks_per_unit * 64);
        finish_sums(l, row + r, unit + u, of_row);
      }
  }

  // What makes up for the panel's offset: minus offset x (sum of the row's codes).
  static void start_sums(const Linear& l, int64_t row, int64_t rows, int64_t blocks, int32_t* sums) {
    for (int64_t r = 0; r < rows; ++r) {
      const int32_t start = Inner::kWeightOffset ? -Inner::kWeightOffset * l.sum_of_codes(row + r) : 0;
      for (int64_t i = 0; i < blocks * 16; ++i) sums[r * blocks * 16 + i] = start;
    }
  }

  // Packed bytes that the panel after this one will read, about: fetched while the tiles compute.
  struct Next {
    const uint8_t* from;
    int64_t stride, lines;  // of each block
  };
  static Next next_bytes(const Linear& l, int64_t first, int64_t blocks, int64_t k) {
    const int64_t stride = l.packing.stride, kp = l.packing.kp, next = k + Inner::kPanelK;
    const int64_t lines = (stride * smaller(Inner::kPanelK, kp) / kp + 63) / 64;
    if (next >= kp) return {l.block(first + blocks), stride, lines};
    return {l.block(first) + stride * next / kp, stride, lines};
  }

  // Rows in tiles of nearly equal height.
  static void tiles(Tile t, int64_t rows, int64_t blocks, Next next) {
    const int64_t count = (rows + Inner::kTileRows - 1) / Inner::kTileRows;
    const Tile all = t;
    for (int64_t i = 0; i < count; ++i) {
      const Range part = share(rows, i, count);
      t.x = all.x + part.begin * all.x_stride;
      t.sums = all.sums + part.begin * blocks * 16;
      const Range lines = share(next.lines, i, count);
      for (int64_t b = 0; b < blocks; ++b)
        for (int64_t line = lines.begin; line < lines.end; ++line)
          __builtin_prefetch(next.from + b * next.stride + line * 64, 0, 2);
      Inner::tile_of(part.end - part.begin, blocks)(t);
    }
  }
};

}  // namespace hearth::HEARTH_ISA
