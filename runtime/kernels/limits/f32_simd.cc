// f32 products at most: fused multiplications and additions, or the two apart where the ISA has no others.
#include "lanes.h"
#include "limits/rounds.h"

namespace hearth::HEARTH_ISA {

uint64_t f32_peak(int64_t rounds) {
  Floats factor = Floats{} + 0.5f;
  return twelve_chains<Floats>(rounds, [&](Floats& sum) {
#if defined(__FMA__)
    asm volatile("vfmadd231ps %1, %1, %0" : "+v"(sum) : "v"(factor));
#elif defined(__SSE2__)
    Floats product = factor;
    asm volatile("mulps %2, %0\n\taddps %0, %1" : "+x"(product), "+x"(sum) : "x"(factor));
#else
    asm volatile("" : "+m"(factor), "+m"(sum));
    sum += factor * factor;
#endif
  });
}

}  // namespace hearth::HEARTH_ISA
