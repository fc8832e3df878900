// rope(x) of docs/arithmetic.md for one head.
#pragma once

#include "arithmetic.h"

namespace hearth::HEARTH_ISA {

// The tables of a command: c and s of a position, `half` = rotary_dim / 2 values each.
struct Tables {
  const float *cos, *sin;  // null: no rotation
  int64_t half;
  const float* c(int64_t t) const { return cos + t * half; }
  const float* s(int64_t t) const { return sin + t * half; }
};

// y[d] from x[d]; y may be x.
static inline void rotate(const float* x, const float* c, const float* s, int64_t half, int64_t d, float* y) {
  for (int64_t i = 0; i < half; i += 16) {
    const int64_t n = half - i;
    const F32x16 a = load_upto(x + i, n), b = load_upto(x + half + i, n);
    const F32x16 ci = load_upto(c + i, n), si = load_upto(s + i, n);
    store_upto(y + i, a * ci - b * si, n);
    store_upto(y + half + i, b * ci + a * si, n);
  }
  if (y != x) __builtin_memmove(y + 2 * half, x + 2 * half, (d - 2 * half) * 4);
}

}  // namespace hearth::HEARTH_ISA
