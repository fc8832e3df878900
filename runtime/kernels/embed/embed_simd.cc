// Embeddings: row tokens[t], or row position + t, of a packed table as f32; lanes of one channel lie a block's
// width apart.
#include "attributes.h"
#include "embed/half.h"
#include "linear/levels.h"

namespace hearth::HEARTH_ISA {
namespace {

struct Table {
  const uint8_t* block;  // the block that holds the row
  const float* scale;
  const int8_t* levels;        // of tables
  const uint16_t* half_scale;  // bf16
  int64_t k, lane;
  Packing packing;

  Table(const Command& c, int operand, int64_t id) : Table(c, ints_of<WeightInts>(c), operand, id) {}
  Table(const Command& c, const WeightInts& i, int operand, int64_t id)
      : k(i.k), lane(id % 16), packing(static_cast<int>(i.layout), i.k, i.group) {
    const uint8_t* base = static_cast<const uint8_t*>(c.operand[operand]);
    block = base + packing.begin() + id / 16 * packing.stride;
    levels = reinterpret_cast<const int8_t*>(base);
    const uint8_t* scales = base + packing.begin() + (i.n + 15) / 16 * packing.stride;
    scale = reinterpret_cast<const float*>(scales) + id;
    half_scale = reinterpret_cast<const uint16_t*>(scales) + id;
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

template <int kBits>
void lookup_grouped(const Table& t, float* y) {
  constexpr int64_t kBytes = kBits * 2, kPerLine = 32 / kBits;
  for (int64_t k = 0; k < t.k; ++k) {
    const Group at(t.packing, k / t.packing.group, kBytes);
    const uint8_t byte = t.block[at.codes + k / kPerLine * 64 + t.lane * 4 + k % 4];
    const int code = kBits == 8 ? byte : k % 8 < 4 ? byte & 15 : byte >> 4;
    float scale;
    __builtin_memcpy(&scale, t.block + at.scales + t.lane * 4, 4);
    y[k] = static_cast<float>(code - t.block[at.zeros + t.lane]) * scale;
  }
}
template <int kBits>
void lookup_table(const Table& t, float* y) {
  const uint32_t bits = uint32_t(*t.half_scale) << 16;
  float scale;
  __builtin_memcpy(&scale, &bits, 4);
  for (int64_t k = 0; k < t.k; ++k) {
    const int8_t m = static_cast<int8_t>(t.block[t.packing.table_multipliers_of(k) + t.lane]);
    const uint8_t* planes = t.block + t.packing.planes_of(k / 32 * 32) + t.lane * 4 + k % 4;
    const int level = t.levels[code_of<kBits>(planes, int(k / 4 % 8))];
    y[k] = static_cast<float>((level * m + 64) >> 7) * scale;
  }
}

constexpr Lookup lookup_t2 = lookup_table<2>, lookup_t3 = lookup_table<3>, lookup_t4 = lookup_table<4>,
                 lookup_t5 = lookup_table<5>, lookup_t6 = lookup_table<6>;
constexpr Lookup lookup_g4 = lookup_grouped<4>, lookup_g8 = lookup_grouped<8>;

void run(const Command& command, const Call& call, Lookup lookup) {
  const int32_t* tokens = row<const int32_t>(command, 0, 0);
  const Range rows = share(call.rows, call.thread, call.threads);
  for (int64_t t = rows.begin; t < rows.end; ++t) lookup(Table(command, 1, tokens[t]), row<float>(command, 2, t));
}

void run_positions(const Command& command, const Call& call, Lookup lookup) {
  const Range rows = share(call.rows, call.thread, call.threads);
  for (int64_t t = rows.begin; t < rows.end; ++t)
    lookup(Table(command, 0, call.position + t), row<float>(command, 1, t));
}

}  // namespace

#define HEARTH_EMBED(layout)                                                                                       \
  void embed_##layout##b16(const Command& command, const Call& call) { run(command, call, lookup_##layout); }      \
  void embed_positions_##layout##b16(const Command& command, const Call& call) {                                   \
    run_positions(command, call, lookup_##layout);                                                                 \
  }
HEARTH_EMBED(f32)
HEARTH_EMBED(f16)
HEARTH_EMBED(q8)
HEARTH_EMBED(q4)
HEARTH_EMBED(g4)
HEARTH_EMBED(g8)
HEARTH_EMBED(t2)
HEARTH_EMBED(t3)
HEARTH_EMBED(t4)
HEARTH_EMBED(t5)
HEARTH_EMBED(t6)
#undef HEARTH_EMBED

}  // namespace hearth::HEARTH_ISA
