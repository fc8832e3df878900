// int8 products at most on AVX-512 VNNI: vpdpbusd.
#include "limits/rounds.h"

namespace hearth::HEARTH_ISA {

uint64_t int8_peak(int64_t rounds) {
  typedef int32_t Sums __attribute__((vector_size(64)));
  const Sums codes = Sums{} + 0x03050307;
  return twelve_chains<Sums>(rounds, [&](Sums& sum) { asm volatile("vpdpbusd %1, %1, %0" : "+v"(sum) : "v"(codes)); });
}

}  // namespace hearth::HEARTH_ISA
