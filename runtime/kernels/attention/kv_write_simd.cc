// cache[position .. position + T) = x[T, Hkv * D], rotated where tables are given; a head of a row is the unit.
#include "attention/cache.h"
#include "attributes.h"
#include "quantize.h"
#include "rope/rotate.h"

namespace hearth::HEARTH_ISA {
namespace {

void write_f32(const Command& command, const CacheShape& shape, const float* x, int64_t head, int64_t t) {
  __builtin_memcpy(row<float>(command, 3, 0) + shape.at(head, t), x, shape.head_dim * 4);
}

void write_f16(const Command& command, const CacheShape& shape, const float* x, int64_t head, int64_t t) {
  uint16_t* to = row<uint16_t>(command, 3, 0) + shape.at(head, t);
  for (int64_t i = 0; i < shape.head_dim; i += 16)
    store_half(to + i, load_upto(x + i, shape.head_dim - i), shape.head_dim - i);
}

// codes16_of gives the codes of 16 values.
template <class F>
inline void write_codes_of(const Command& command, const CacheShape& shape, const float* x, int64_t head, int64_t t,
                           F codes16_of) {
  const int64_t d = shape.head_dim;
  const bool is_k = ints_of<KvWriteInts>(command).is_k();
  int8_t* block = row<int8_t>(command, 3, 0) + shape.block(head, t) + t % 16 * 4;
  int8_t* values = row<int8_t>(command, 3, 0) + shape.at(head, t);
  for (int64_t i = 0; i < d; i += 16) {
    int8_t codes[16];
    const I8x16 vector = codes16_of(load_upto(x + i, d - i));
    __builtin_memcpy(codes, &vector, 16);
    const int64_t n = d - i < 16 ? d - i : 16;
    if (!is_k) __builtin_memcpy(values + i, codes, n);
    else
      for (int64_t j = 0; j < n; j += 4) __builtin_memcpy(block + (i + j) * 16, codes + j, 4);
  }
}

void write_int8(const Command& command, const CacheShape& shape, const float* x, int64_t head, int64_t t) {
  const int64_t d = shape.head_dim;
  const float most = max_abs(d, [&](int64_t i) { return load_upto(x + i, d - i); });
  const float inverse = inverse_scale(most);
  write_codes_of(command, shape, x, head, t, [&](F32x16 v) { return codes16(v, inverse); });
  row<float>(command, 4, 0)[shape.scale(head, t)] = scale_of(most);
}

void write_int8_static(const Command& command, const CacheShape& shape, const float* x, int64_t head, int64_t t) {
  write_codes_of(command, shape, x, head, t, Fixed(command.floats));
}

template <class Write>
void write_rows(const Command& command, const Call& call, Write write) {
  const auto ints = ints_of<KvWriteInts>(command);
  const int64_t heads = ints.heads, d = ints.head_dim;
  const CacheShape shape{heads, d, ints.context};
  const Tables tables{row<const float>(command, 1, 0), row<const float>(command, 2, 0), ints.rotary_dim / 2};
  float* rotated = reinterpret_cast<float*>(call.scratch);
  const Share share(call.rows * heads, call);
  for (int64_t unit = share.begin; unit < share.end; ++unit) {
    const int64_t head = unit / call.rows, m = unit % call.rows, t = call.position + m;
    const float* x = row<const float>(command, 0, m) + head * d;
    if (tables.cos) rotate(x, tables.c(t), tables.s(t), tables.half, d, rotated);
    write(command, shape, tables.cos ? rotated : x, head, t);
  }
}

}  // namespace

void kv_write_f32(const Command& command, const Call& call) { write_rows(command, call, write_f32); }
void kv_write_f16(const Command& command, const Call& call) { write_rows(command, call, write_f16); }
void kv_write_int8(const Command& command, const Call& call) { write_rows(command, call, write_int8); }
void kv_write_int8_static(const Command& command, const Call& call) { write_rows(command, call, write_int8_static); }

size_t kv_write_scratch(const Command& command, int64_t) { return align_up(ints_of<KvWriteInts>(command).head_dim, 16) * 4; }

}  // namespace hearth::HEARTH_ISA
