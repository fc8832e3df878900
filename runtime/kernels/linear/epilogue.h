// From sums to y: scales, bias, what an adapter adds, activation, residual, in the order of docs/arithmetic.md.
//
// Rows go four at a time where registers are many: one row's activation is a chain of dependent operations, four keep
// the core busy. Of several units those rows are finished together, so that y is written in long stretches.
#pragma once

#include "linear/delta.h"

namespace hearth::HEARTH_ISA {

// What the rows of a unit share; `up` is of the second block of a paired unit.
struct UnitValues {
  int64_t first, count;  // columns of y
  F32x16 scale{}, up_scale{}, bias{}, up_bias{};

  UnitValues() = default;
  UnitValues(const Linear& l, int64_t unit, bool scaled) : first(unit * 16), count(smaller(16, l.columns - first)) {
    const bool paired = l.blocks_per_unit == 2;
    const int64_t channel = first * l.blocks_per_unit;
    if (scaled) scale = l.scales(channel);
    if (scaled && paired) up_scale = l.scales(channel + 16);
    if (l.bias) bias = load_columns(l.bias + first, count);
    if (l.bias && paired) up_bias = load_columns(l.bias + l.columns + first, count);
  }
};

// Sums of float linears, and of integer ones, whose rows have a scale: f32 or i32[rows][stride], a unit's blocks side
// by side. of(r, at) are the 16 sums from `at` on of the r-th row.
struct FloatSums {
  const float* sums;
  int64_t stride;
  F32x16 of(const Linear&, int64_t, int64_t r, int64_t at) const { return load16(sums + r * stride + at); }
};
struct IntegerSums {
  const int32_t* sums;
  int64_t stride;
  F32x16 of(const Linear& l, int64_t index, int64_t r, int64_t at) const {
    return to_float(load_i32(sums + r * stride + at)) * l.x_scale(index + r);
  }
};

// V: one row or several. `delta` is called for block 0 and, of a paired unit, block 1.
template <bool kScaled, int kActivation, class V, class D>
static inline V activated(const Linear& l, const UnitValues& unit, V y, V up, D delta) {
  if (kScaled) y = y * unit.scale;
  if (l.bias) y = y + unit.bias;
  y = delta(y, 0);
  constexpr int kGate = gate_of(kActivation);
  if constexpr (kGate == kNone) return activate16(y, kActivation);
  if (kScaled) up = up * unit.up_scale;
  if (l.bias) up = up + unit.up_bias;
  up = delta(up, 1);
  return activate16(y, kGate) * up;
}

// Inlined whatever the compiler thinks: a call would empty every vector register.
[[gnu::always_inline]] static inline void finish_row(const Linear& l, const UnitValues& unit, int64_t row, F32x16 y) {
  if (l.residual) {
    const uint8_t* from = l.residual + row * l.residual_stride;
    y = y + load_columns(reinterpret_cast<const float*>(from) + unit.first, unit.count);
  }
  float* to = reinterpret_cast<float*>(l.y + row * l.y_stride) + unit.first;
  if (unit.count == 16) store16(to, y);
  else store_some(to, y, unit.count);
}

constexpr int kMostUnits = 8;  // finished together

// The rows [r, end) of `rows`; all of them have the adapter that the first one has.
template <bool kScaled, int kActivation, bool kAdapted, class Sums>
static void finish_as(const Linear& l, const UnitValues* values, int64_t units, int64_t row, Range rows, Sums sums) {
  constexpr bool kPaired = gate_of(kActivation) != kNone;
  constexpr int64_t kUnitSums = kPaired ? 32 : 16, kBlocks = kPaired ? 2 : 1;
  int64_t r = rows.begin;
#if HEARTH_WIDTH == 16
  for (; r + 4 <= rows.end; r += 4)
    for (int64_t u = 0; u < units; ++u) {
      typedef Pair<Pair<F32x16>> Four;
      const auto four = [&](int64_t at) {
        const auto one = [&](int64_t i) { return sums.of(l, row, r + i, u * kUnitSums + at); };
        return Four{{one(0), one(1)}, {one(2), one(3)}};
      };
      const auto delta = [&](Four y, int64_t b) {
        if constexpr (kAdapted) {
          F32x16 d[4];
          deltas_of<4>(l.deltas + row + r, values[u].first / 16 * kBlocks + b, d);
          return y + Four{{d[0], d[1]}, {d[2], d[3]}};
        } else {
          return y;
        }
      };
      const auto up = kPaired ? four(16) : Four{};
      const auto y = activated<kScaled, kActivation>(l, values[u], four(0), up, delta);
      finish_row(l, values[u], row + r, y.low.low), finish_row(l, values[u], row + r + 1, y.low.high);
      finish_row(l, values[u], row + r + 2, y.high.low), finish_row(l, values[u], row + r + 3, y.high.high);
    }
#endif
  for (; r < rows.end; ++r)
    for (int64_t u = 0; u < units; ++u) {
      const auto delta = [&](F32x16 y, int64_t b) {
        if constexpr (kAdapted) {
          F32x16 d;
          deltas_of<1>(l.deltas + row + r, values[u].first / 16 * kBlocks + b, &d);
          return y + d;
        } else {
          return y;
        }
      };
      const F32x16 up = kPaired ? sums.of(l, row, r, u * kUnitSums + 16) : F32x16{};
      const F32x16 y = sums.of(l, row, r, u * kUnitSums);
      finish_row(l, values[u], row + r, activated<kScaled, kActivation>(l, values[u], y, up, delta));
    }
}

template <bool kScaled, bool kAdapted, class Sums>
static void finish_rows(const Linear& l, const UnitValues* values, int64_t units, int64_t row, Range rows, Sums sums) {
  switch (l.activation) {
#define HEARTH_CASE(a) return finish_as<kScaled, a, kAdapted>(l, values, units, row, rows, sums);
    case kNone: HEARTH_CASE(kNone)
    case kSilu: HEARTH_CASE(kSilu)
    case kSwiGLUActivation: HEARTH_CASE(kSwiGLUActivation)
    case kGegluTanhActivation: HEARTH_CASE(kGegluTanhActivation)
    case kGelu: HEARTH_CASE(kGelu)
    case kGeluTanh: HEARTH_CASE(kGeluTanh)
    case kRelu: HEARTH_CASE(kRelu)
    case kTanh: HEARTH_CASE(kTanh)
    default: HEARTH_CASE(kSigmoid)
#undef HEARTH_CASE
  }
}

// Rows that follow each other and have the same adapter together.
template <bool kScaled, class Sums>
[[gnu::noinline]] static void finish_adapted(const Linear& l, const UnitValues* values, int64_t units, int64_t row,
                                             int64_t rows, Sums sums) {
  for (int64_t begin = 0, end = 0; begin < rows; begin = end) {
    const DeltaBlock* const blocks = l.deltas[row + begin].blocks;
    for (end = begin + 1; end < rows && l.deltas[row + end].blocks == blocks;) ++end;
    finish_rows<kScaled, true>(l, values, units, row, {begin, end}, sums);
  }
}

template <bool kScaled, class Sums>
static void finish(const Linear& l, const UnitValues* values, int64_t units, int64_t row, int64_t rows, Sums sums) {
  if (l.deltas) finish_adapted<kScaled>(l, values, units, row, rows, sums);
  else finish_rows<kScaled, false>(l, values, units, row, {0, rows}, sums);
}

// Rows row .. row + rows of the units unit .. unit + units, at most kMostUnits; sums[0] is of the first of each.
template <bool kScaled, class Sums>
static void finish_units(const Linear& l, int64_t unit, int64_t units, int64_t row, int64_t rows, Sums sums) {
  UnitValues values[kMostUnits];
  for (int64_t u = 0; u < units; ++u) values[u] = UnitValues(l, unit + u, kScaled);
  finish<kScaled>(l, values, units, row, rows, sums);
}

// One unit of an integer linear.
struct Epilogue {
  const Linear& l;
  UnitValues values;
  Epilogue(const Linear& linear, int64_t unit) : l(linear), values(linear, unit, true) {}
  void row_of_sums(int64_t index, const int32_t* sums) const { rows_of_sums(index, 1, sums, 0); }
  // Rows from `index` on, their sums `stride` apart.
  void rows_of_sums(int64_t index, int64_t rows, const int32_t* sums, int64_t stride) const {
    finish<true>(l, &values, 1, index, rows, IntegerSums{sums, stride});
  }
};

}  // namespace hearth::HEARTH_ISA
