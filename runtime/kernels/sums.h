// reduce_add of HEARTH_WIDTH vectors at once: the same tree of 8, 4, 2, 1, its lower levels shared by several vectors.
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

}  // namespace hearth::HEARTH_ISA
