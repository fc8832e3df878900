// Twelve chains of one step: more than latency times ports of any core so far, fewer than its registers.
#pragma once

#include <cstdint>

#include "kernel.h"

namespace hearth::HEARTH_ISA {

// step(sum) may not be foldable: the compiler would skip rounds whose results it can foresee.
template <class V, class Step>
[[gnu::always_inline]] static inline uint64_t twelve_chains(int64_t rounds, Step step) {
  V a{}, b{}, c{}, d{}, e{}, f{}, g{}, h{}, i{}, j{}, k{}, l{};
  for (int64_t round = 0; round < rounds; ++round) {
    step(a), step(b), step(c), step(d), step(e), step(f);
    step(g), step(h), step(i), step(j), step(k), step(l);
  }
  typedef uint64_t Bits __attribute__((vector_size(sizeof(V))));
  const auto bits = [](const V& v) [[gnu::always_inline]] { return (Bits)v; };
  return (bits(a) ^ bits(b) ^ bits(c) ^ bits(d) ^ bits(e) ^ bits(f) ^ bits(g) ^ bits(h) ^ bits(i) ^ bits(j) ^ bits(k) ^
          bits(l))[0];
}

}  // namespace hearth::HEARTH_ISA
