// int8 products at most on AVX2: vpmaddubsw, its sums of two kept in 16 bits as long as they fit (vpaddw).
#include "limits/rounds.h"

namespace hearth::HEARTH_ISA {

uint64_t int8_peak(int64_t rounds) {
  typedef int16_t Sums __attribute__((vector_size(32)));
  const Sums codes = Sums{} + 0x0305;
  return twelve_chains<Sums>(rounds, [&](Sums& sum) {
    Sums product;
    asm volatile("vpmaddubsw %2, %2, %0\n\tvpaddw %0, %1, %1" : "=&x"(product), "+x"(sum) : "x"(codes));
  });
}

}  // namespace hearth::HEARTH_ISA
