// int8 products at most without any extension: eight of 16 bits at a time (pmaddwd where there is SSE2).
#include "limits/rounds.h"

namespace hearth::HEARTH_ISA {

uint64_t int8_peak(int64_t rounds) {
#if defined(__SSE2__)
  typedef int32_t Sums __attribute__((vector_size(16)));
  Sums weights = Sums{} + 0x00030005;
  return twelve_chains<Sums>(rounds, [&](Sums& sum) {
    Sums product = weights;
    asm volatile("pmaddwd %2, %0\n\tpaddd %0, %1" : "+x"(product), "+x"(sum) : "x"(weights));
  });
#else
  typedef int16_t Sums __attribute__((vector_size(16)));
  Sums weights = Sums{} + 3;
  return twelve_chains<Sums>(rounds, [&](Sums& sum) {
    asm volatile("" : "+m"(weights), "+m"(sum));
    sum += weights * weights;
  });
#endif
}

}  // namespace hearth::HEARTH_ISA
