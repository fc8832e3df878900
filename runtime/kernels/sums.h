// What takes HEARTH_WIDTH vectors at once: reduce_add, the same tree of 8, 4, 2, 1 with its lower levels shared by several
// vectors; and their transposition.
#pragma once

#include "lanes.h"

namespace hearth::HEARTH_ISA {

#if HEARTH_WIDTH == 16
#define HEARTH_LANES(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
template <class F>
static inline Floats quarter_sums(int i, F v) {  // lanes 4 L .. 4 L + 3: of v(i + 4 L)
  const auto halves = [](Floats a, Floats b) {
    return HEARTH_LANES(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
           HEARTH_LANES(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  };
  const Floats a = halves(v(i), v(i + 4)), b = halves(v(i + 8), v(i + 12));
  return HEARTH_LANES(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
         HEARTH_LANES(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
}
static inline Floats join_pairs(Floats a, Floats b) {
  return HEARTH_LANES(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +
         HEARTH_LANES(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
}
static inline Floats join_ones(Floats a, Floats b) {
  return HEARTH_LANES(a, b, 0, 2, 16, 18, 4, 6, 20, 22, 8, 10, 24, 26, 12, 14, 28, 30) +
         HEARTH_LANES(a, b, 1, 3, 17, 19, 5, 7, 21, 23, 9, 11, 25, 27, 13, 15, 29, 31);
}
#undef HEARTH_LANES
#elif HEARTH_WIDTH == 8
template <class F>
static inline Floats quarter_sums(int i, F v) {
  const F32x16 first = v(i), second = v(i + 4);
  const Floats a = first.low + first.high, b = second.low + second.high;
  return __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11) +
         __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
}
static inline Floats join_pairs(Floats a, Floats b) {
  return __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13) +
         __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15);
}
static inline Floats join_ones(Floats a, Floats b) {
  return __builtin_shufflevector(a, b, 0, 2, 8, 10, 4, 6, 12, 14) +
         __builtin_shufflevector(a, b, 1, 3, 9, 11, 5, 7, 13, 15);
}
#else
template <class F>
static inline Floats quarter_sums(int i, F v) {
  const F32x16 all = v(i);
  return (all.low.low + all.high.low) + (all.low.high + all.high.high);
}
static inline Floats join_pairs(Floats a, Floats b) {
  return __builtin_shufflevector(a, b, 0, 1, 4, 5) + __builtin_shufflevector(a, b, 2, 3, 6, 7);
}
static inline Floats join_ones(Floats a, Floats b) {
  return __builtin_shufflevector(a, b, 0, 2, 4, 6) + __builtin_shufflevector(a, b, 1, 3, 5, 7);
}
#endif
// The sum of v(i) in lane i.
template <class F>
static inline Floats reduce_add_each(F v) {
  const Floats even = join_pairs(quarter_sums(0, v), quarter_sums(1, v));
  return join_ones(even, join_pairs(quarter_sums(2, v), quarter_sums(3, v)));
}

// Lanes of a and b in turn: of their first halves, of their second halves.
#if HEARTH_WIDTH == 16
static inline Floats first_halves(Floats a, Floats b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
static inline Floats second_halves(Floats a, Floats b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
#elif HEARTH_WIDTH == 8
static inline Floats first_halves(Floats a, Floats b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
static inline Floats second_halves(Floats a, Floats b) {
  return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}
#else
static inline Floats first_halves(Floats a, Floats b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
static inline Floats second_halves(Floats a, Floats b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }
#endif
// v[i][j] becomes v[j][i]: each step rotates the bits of an element's place (row, lane) by one.
[[gnu::always_inline]] static inline void transpose_square(Floats* v) {
#pragma GCC unroll 4
  for (int step = 1; step < HEARTH_WIDTH; step *= 2) {
    Floats next[HEARTH_WIDTH];
#pragma GCC unroll 8
    for (int i = 0; i < HEARTH_WIDTH / 2; ++i) {
      next[2 * i] = first_halves(v[i], v[i + HEARTH_WIDTH / 2]);
      next[2 * i + 1] = second_halves(v[i], v[i + HEARTH_WIDTH / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < HEARTH_WIDTH; ++i) v[i] = next[i];
  }
}

}  // namespace hearth::HEARTH_ISA
