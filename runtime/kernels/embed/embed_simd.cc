// Embedding: row tokens[t] of a packed table as f32; lanes of one channel lie a block's width apart.
#include "embed/half.h"
#include "linear/parts.h"

namespace hearth::HEARTH_ISA {
namespace {

struct Table {
  const uint8_t* block;  // the block that holds the row
  const float* scale;
  int64_t k, lane;
  Packing packing;

  Table(const Command& c, int64_t id)
      : k(c.ints[1]), lane(id % 16), packing(static_cast<int>(c.ints[2]), c.ints[1], c.ints[3]) {
    const uint8_t* base = static_cast<const uint8_t*>(c.operand[1]);
    block = base + id / 16 * packing.stride;
    scale = reinterpret_cast<const float*>(base + (c.ints[0] + 15) / 16 * packing.stride) + id;
  }
};

using Lookup = void (*)(const Table&, float* y);

void lookup_f32(const Table& t, float* y) {
  const float* w = reinterpret_cast<const float*>(t.block) + t.lane;
  for (int64_t k = 0; k < t.k; ++k) y[k] = w[k * 16];
}

void lookup_f16(const Table& t, float* y) {
  const uint16_t* w = reinterpret_cast<const uint16_t*>(t.block) + t.lane;
  for (int64_t k = 0; k < t.k; ++k) y[k] = half_to_float(w[k * 16]);
}

void lookup_q8(const Table& t, float* y) {
  const int8_t* w = reinterpret_cast<const int8_t*>(t.block) + t.lane * 4;
  for (int64_t k = 0; k < t.k; ++k) y[k] = static_cast<float>(w[k / 4 * 64 + k % 4]) * *t.scale;
}

void lookup_q4(const Table& t, float* y) {
  for (int64_t k = 0; k < t.k; ++k) {
    const int8_t m = static_cast<int8_t>(t.block[t.packing.multipliers_of(k) + t.lane]);
    const int byte = t.block[t.packing.nibbles_of(k / 8 * 8) + t.lane * 4 + k % 4];
    const int code = (k % 8 < 4 ? byte & 15 : byte >> 4) - 8;
    y[k] = static_cast<float>(code * m) * *t.scale;
  }
}

void run(const Command& command, const Call& call, Lookup lookup) {
  const int32_t* tokens = static_cast<const int32_t*>(command.operand[0]);
  uint8_t* y = static_cast<uint8_t*>(command.operand[2]);
  const Range rows = share(call.rows, call.thread, call.threads);
  for (int64_t row = rows.begin; row < rows.end; ++row)
    lookup(Table(command, tokens[row]), reinterpret_cast<float*>(y + row * command.stride[2]));
}

}  // namespace

void embed_f32b16(const Command& command, const Call& call) { run(command, call, lookup_f32); }
void embed_f16b16(const Command& command, const Call& call) { run(command, call, lookup_f16); }
void embed_q8b16(const Command& command, const Call& call) { run(command, call, lookup_q8); }
void embed_q4b16(const Command& command, const Call& call) { run(command, call, lookup_q4); }

}  // namespace hearth::HEARTH_ISA
