// The plain meaning of the integer linears: sums of effective weight x activation code, then the epilogue.
#include "linear/parts.h"

namespace hearth::HEARTH_ISA {
namespace {

// Effective int8 weights of one block, s8[Kp / 4][16][4].
void expand_q8(const Linear& l, int64_t block, int8_t* out) {
  __builtin_memcpy(out, l.block(block), l.packing.kp * 16);
}

void expand_q4(const Linear& l, int64_t block, int8_t* out) {
  for (int64_t p = 0; p < l.packing.kp / 8; ++p) {
    const uint8_t* pairs = l.block(block) + l.packing.nibbles_of(p * 8);
    const int8_t* m = reinterpret_cast<const int8_t*>(l.block(block) + l.packing.multipliers_of(p * 8));
    for (int i = 0; i < 64; ++i) {
      const int byte = pairs[i];
      out[p * 128 + i] = static_cast<int8_t>(((byte & 15) - 8) * m[i / 4]);
      out[p * 128 + 64 + i] = static_cast<int8_t>(((byte >> 4) - 8) * m[i / 4]);
    }
  }
}

void dot(const int8_t* w, const int8_t* a, int64_t kp, int32_t* result) {
  int32_t sums[16] = {};
  for (int64_t k = 0; k < kp; k += 4, w += 64)
    for (int n = 0; n < 16; ++n)
      for (int j = 0; j < 4; ++j) sums[n] += w[4 * n + j] * a[k + j];
  __builtin_memcpy(result, sums, sizeof sums);
}

using Expand = void (*)(const Linear&, int64_t block, int8_t* out);

void run(const Command& command, const Call& call, Expand expand) {
  const Linear l(command);
  const Range units = share(l.units, call.thread, call.threads);
  int8_t* weights = reinterpret_cast<int8_t*>(call.scratch);
  for (int64_t unit = units.begin; unit < units.end; ++unit) {
    for (int64_t b = 0; b < l.blocks_per_unit; ++b)
      expand(l, unit * l.blocks_per_unit + b, weights + b * l.packing.kp * 16);
    const Epilogue epilogue(l, unit, true);
    for (int64_t row = 0; row < call.rows; ++row) {
      int32_t sums[32];
      for (int64_t b = 0; b < l.blocks_per_unit; ++b)
        dot(weights + b * l.packing.kp * 16, l.codes(row), l.packing.kp, sums + b * 16);
      epilogue.row_of_sums(row, sums);
    }
  }
}

}  // namespace

void linear_q8_q8b16(const Command& command, const Call& call) { run(command, call, expand_q8); }
void linear_q8_q4b16(const Command& command, const Call& call) { run(command, call, expand_q4); }

size_t linear_q8_scratch(const Command& command, int64_t) {
  return static_cast<size_t>(Linear(command).packing.kp) * 16 * 2;
}

}  // namespace hearth::HEARTH_ISA
