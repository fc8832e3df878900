// Where the values of a layer's cache lie (docs/layouts.md), and how each scheme reads 16 of them as f32.
#pragma once

#include "half16.h"

namespace hearth::HEARTH_ISA {

constexpr int64_t kBlock = 64;  // positions taken together

struct CacheShape {
  int64_t heads, head_dim, context;
  int64_t positions() const { return align_up(context, 16); }  // Sp
  int64_t quads() const { return (head_dim + 3) / 4; }         // Dp / 4
  // The first value of a position of V, or of an f32 or f16 K.
  int64_t at(int64_t head, int64_t t) const { return (head * context + t) * head_dim; }
  // The first byte of the block of an int8 K that holds position t.
  int64_t block(int64_t head, int64_t t) const { return (head * (positions() / 16) + t / 16) * quads() * 64; }
  int64_t scale(int64_t head, int64_t t) const { return head * positions() + t; }
};

// read(base, index, n): n of up to 16 values from `index`, +0 beyond. kFinite: whatever the memory holds is finite. kFloat: it is f32.
// kShifted: it has a zero point still.
// Asks for n values from `index`, a block of positions before they are used. Nothing happens where there is no memory.
template <class Values>
[[gnu::always_inline]] static inline void fetch(const void* base, int64_t index, int64_t n) {
  for (int64_t i = 0; i < n * Values::kBytes; i += 64)
    __builtin_prefetch(static_cast<const char*>(base) + index * Values::kBytes + i);
}

struct F32Values {
  static constexpr bool kFinite = false, kFloat = true, kFetched = false, kShifted = false;
  static constexpr int kBytes = 4;
  static inline F32x16 read(const void* base, int64_t index) {
    return load16(static_cast<const float*>(base) + index);
  }
  static inline F32x16 read(const void* base, int64_t index, int64_t n) {
    return load_upto(static_cast<const float*>(base) + index, n);
  }
};

struct F16Values {
  static constexpr bool kFinite = false, kFloat = false, kFetched = false, kShifted = false;
  static constexpr int kBytes = 2;
  static inline F32x16 read(const void* base, int64_t index) {
    return load_half16(static_cast<const uint16_t*>(base) + index);
  }
  static inline F32x16 read(const void* base, int64_t index, int64_t n) {
    return load_half(static_cast<const uint16_t*>(base) + index, n);
  }
};

struct Int8Values {
  static constexpr bool kFinite = true, kFloat = false, kFetched = true, kShifted = false;
  static constexpr int kBytes = 1;
  static inline F32x16 read(const void* base, int64_t index) {
    I8x16 codes;
    __builtin_memcpy(&codes, static_cast<const int8_t*>(base) + index, 16);
    return to_float(widen(codes));
  }
  static inline F32x16 read(const void* base, int64_t index, int64_t n) {
    if (n >= 16) return read(base, index);
    int8_t codes[16] = {};
    __builtin_memcpy(codes, static_cast<const int8_t*>(base) + index, n);
    return read(codes, 0);
  }
};

// Codes with a zero point, which is taken from what read() gives.
struct StaticValues : Int8Values {
  static constexpr bool kShifted = true;
};

}  // namespace hearth::HEARTH_ISA
