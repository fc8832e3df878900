// The integer linears' two ways through a weight, over an ISA's inner loops (struct Inner):
//
//   few rows   one pass over the packed bytes, at the speed of memory
//   many rows  panels of kPanelBlocks blocks x at most kPanelK values, expanded to effective int8 weights in scratch, times
//              all rows; sums stay in scratch between the panels of K, so nothing but integers is added
//
// Inner has: kFewRows, kTileRows, kPanelBlocks, kPanelK, kPanelLines (of 64 bytes a block has in a panel),
//   kWeightOffset (what the panel's bytes are above w);
//   dots of 1 .. kFewRows rows (l, block, starts, sums)    sums of one block for all rows, rows 32 sums apart
//   expand (l, block, blocks, k, tile)                     K values k .. of blocks to tile's panel; perhaps does sums +=
//                                                          panel x rows for the first rows at once: returns how many
//   panel_k(rows)                                          values of K of a panel that so many rows pass
//   tile_of(rows, blocks)                                  the function that does sums += panel x rows
#pragma once

#include "linear/epilogue.h"

namespace hearth::HEARTH_ISA {

struct Tile {
  uint8_t* panel;   // lines of 64 bytes, [line][kBlocks]: what expand makes, by default [quads][kBlocks][16][4]
  const int8_t* x;  // codes, rows x_stride bytes apart
  int64_t x_stride;
  int32_t* sums;  // [rows][kBlocks * 16]
  int64_t quads;
  const int32_t* x_sums;  // of each 32 codes, rows x_stride bytes apart
};

template <class Inner>
struct Integer {
  using Dot = void (*)(const Linear&, int64_t block, const int32_t* starts, int32_t* sums);
  using TileFn = void (*)(const Tile&);
  static constexpr int64_t kRowsAtOnce = 192, kPanelNbytes = Inner::kPanelLines * Inner::kPanelBlocks * 64;

  static size_t scratch(int64_t max_rows) {
    const int64_t rows = smaller(max_rows, kRowsAtOnce), sums_nbytes = rows * Inner::kPanelBlocks * 64;
    return static_cast<size_t>(kPanelNbytes + sums_nbytes + rows * 4);
  }

  static void run(const Command& command, const Call& call, const Dot* dots) {
    const Linear l(command, call.deltas);
    if (call.rows == 0) return;
    if (call.rows <= Inner::kFewRows) few_rows(l, call, dots);
    else many_rows(l, call);
  }

  // Where the sums of a row start, to make up for the weights' offset.
  static void starts_of(const Linear& l, int64_t row, int64_t rows, int32_t* starts) {
    for (int64_t r = 0; r < rows; ++r)
      starts[r] = Inner::kWeightOffset ? int32_t(-uint32_t(Inner::kWeightOffset) * uint32_t(l.sum_of_codes(row + r))) : 0;
  }

  // dots[r - 1] serves r rows. No prefetching by hand: a block is one stream, which the hardware follows.
  static void few_rows(const Linear& l, const Call& call, const Dot* dots) {
    const Range units = share(l.units, call.thread, call.threads);
    int32_t starts[Inner::kFewRows];
    starts_of(l, 0, call.rows, starts);
    for (int64_t unit = units.begin; unit < units.end; ++unit) {
      int32_t sums[Inner::kFewRows][32];
      for (int64_t b = 0; b < l.blocks_per_unit; ++b)
        dots[call.rows - 1](l, unit * l.blocks_per_unit + b, starts, sums[0] + b * 16);
      const Epilogue epilogue(l, unit);
      epilogue.rows_of_sums(0, call.rows, sums[0], 32);
    }
  }

  struct Panel {
    int64_t unit, units, row, rows, k;  // k: values of K at once
    int32_t *starts, *sums;  // of the rows; [rows][blocks * 16]
    uint8_t* weights;
  };

  static void many_rows(const Linear& l, const Call& call) {
    const int64_t panel_units = Inner::kPanelBlocks / l.blocks_per_unit;
    const Range units = share(l.units, call.thread, call.threads);
    Panel p{};
    p.weights = reinterpret_cast<uint8_t*>(call.scratch);
    p.sums = reinterpret_cast<int32_t*>(p.weights + kPanelNbytes);
    const int64_t passes = (call.rows + kRowsAtOnce - 1) / kRowsAtOnce;
    for (int64_t pass = 0; pass < passes; ++pass) {
      const Range rows = share(call.rows, pass, passes);  // nearly equal: each expands all weights
      p.row = rows.begin, p.rows = rows.end - rows.begin, p.k = Inner::panel_k(p.rows);
      p.starts = p.sums + p.rows * Inner::kPanelBlocks * 16;
      starts_of(l, p.row, p.rows, p.starts);
      for (p.unit = units.begin; p.unit < units.end; p.unit += panel_units) {
        p.units = smaller(panel_units, units.end - p.unit);
        multiply(l, p);
        finish_panel(l, p);
      }
    }
  }

  static void multiply(const Linear& l, const Panel& p) {
    const int64_t first = p.unit * l.blocks_per_unit, blocks = p.units * l.blocks_per_unit;
    for (int64_t r = 0; r < p.rows; ++r)
      for (int64_t i = 0; i < blocks * 16; ++i) p.sums[r * blocks * 16 + i] = p.starts[r];
    for (int64_t k = 0; k < l.packing.kp; k += p.k) {
      const int64_t count = smaller(p.k, l.packing.kp - k);
      const Tile tile{p.weights, l.codes(p.row) + k, l.x_stride, p.sums, count / 4, l.sums(p.row) + k / 32};
      const int64_t done = Inner::expand(l, first, blocks, k, tile);
      tiles(l, p, tile, {done, p.rows}, next_bytes(l, p, k), k + count == l.packing.kp);
    }
  }

  static void finish_panel(const Linear& l, const Panel& p) {
    finish_units<true>(l, p.unit, p.units, p.row, p.rows, IntegerSums{p.sums, p.units * l.blocks_per_unit * 16});
  }

  // Packed bytes that the panel after this one will read, about: fetched while the tiles compute.
  struct Next {
    const uint8_t* from;
    int64_t stride, lines;  // of each block
  };
  static Next next_bytes(const Linear& l, const Panel& p, int64_t k) {
    const int64_t stride = l.packing.stride, kp = l.packing.kp, next = k + p.k;
    const int64_t lines = (stride * smaller(p.k, kp) / kp + 63) / 64;
    if (next >= kp) return {l.block((p.unit + p.units) * l.blocks_per_unit), stride, lines};
    return {l.block(p.unit * l.blocks_per_unit) + stride * next / kp, stride, lines};
  }

  // What finish_panel will write, made this core's own: y comes from memory, or from where another thread read it, and
  // stores wait for each other.
  static void own_y(const Linear& l, const Panel& p, Range rows) {
    for (int64_t r = rows.begin; r < rows.end; ++r)
      for (int64_t u = 0; u < p.units; ++u)
        __builtin_prefetch(l.y + (p.row + r) * l.y_stride + (p.unit + u) * 64, 1, 2);
  }

  // Rows in tiles of nearly equal height.
  static void tiles(const Linear& l, const Panel& p, Tile t, Range rows, Next next, bool last) {
    const int64_t height = rows.end - rows.begin, count = (height + Inner::kTileRows - 1) / Inner::kTileRows;
    const int64_t blocks = p.units * l.blocks_per_unit;
    const Tile all = t;
    for (int64_t i = 0; i < count; ++i) {
      const Range of = share(height, i, count), part{rows.begin + of.begin, rows.begin + of.end};
      if (last) own_y(l, p, {i ? part.begin : 0, part.end});
      t.x = all.x + part.begin * all.x_stride;
      t.x_sums = all.x_sums + part.begin * all.x_stride / 4;
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
