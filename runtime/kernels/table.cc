// The kernel table, made by including each family's kernels.def; what this CPU can run; the choice of a row.
//
// A row is KERNEL(name, opcode, variant, x_is_q8, isa, exact, run, scratch): isa is portable, avx2 or
// avx512vnni, and run and scratch are functions of namespace hearth::<isa>. KERNELS(...), without the isa,
// makes one row per ISA of the processor's family, named <name>_<isa>.
#include "table.h"

#include <stdexcept>
#include <string>

#if defined(__x86_64__)
#define KERNELS(name, opcode, variant, x_is_q8, exact, run, scratch)                          \
  KERNEL(name##_portable, opcode, variant, x_is_q8, portable, exact, run, scratch)            \
  KERNEL(name##_avx2, opcode, variant, x_is_q8, avx2, exact, run, scratch)                    \
  KERNEL(name##_avx512vnni, opcode, variant, x_is_q8, avx512vnni, exact, run, scratch)
#else
#define KERNELS(name, opcode, variant, x_is_q8, exact, run, scratch) \
  KERNEL(name##_portable, opcode, variant, x_is_q8, portable, exact, run, scratch)
#endif

namespace hearth {

#define KERNEL(name, opcode, variant, x_is_q8, isa, exact, run, scratch) \
  namespace isa {                                                        \
  void run(const Command&, const Call&);                                 \
  size_t scratch(const Command&, int64_t max_rows);                      \
  }
#include "all_kernels.def"
#undef KERNEL

namespace {

[[maybe_unused]] constexpr Isa isa_portable = kPortable, isa_avx2 = kAvx2, isa_avx512vnni = kAvx512Vnni;

constexpr Kernel kTable[] = {
#define KERNEL(name, opcode, variant, x_is_q8, isa, exact, run, scratch) \
  {#name, opcode, variant, x_is_q8, isa_##isa, exact, isa::run, isa::scratch},
#include "all_kernels.def"
#undef KERNEL
};

constexpr std::string_view kIsaNames[] = {"portable", "avx2", "avx512vnni"};

#if defined(__x86_64__)
bool cpu_has(Isa isa) {
  __builtin_cpu_init();  // asks the operating system too (xgetbv)
  switch (isa) {
    case kPortable: return true;
    case kAvx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
             __builtin_cpu_supports("f16c");
    case kAvx512Vnni:
      return cpu_has(kAvx2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512vnni");
  }
  return false;
}
#else
bool cpu_has(Isa isa) { return isa == kPortable; }
#endif

}  // namespace

std::span<const Kernel> kernel_table() { return kTable; }

std::vector<Isa> cpu_isas() {
  std::vector<Isa> found;
  for (Isa isa : {kPortable, kAvx2, kAvx512Vnni})
    if (cpu_has(isa)) found.push_back(isa);
  return found;
}

std::string_view isa_name(Isa isa) { return kIsaNames[isa]; }

Isa isa_named(std::string_view name) {
  for (Isa isa : {kPortable, kAvx2, kAvx512Vnni})
    if (name == kIsaNames[isa]) {
      if (!cpu_has(isa)) throw std::invalid_argument("this CPU lacks the ISA " + std::string(name));
      return isa;
    }
  throw std::invalid_argument("unknown ISA '" + std::string(name) +
                              "'; expected portable, avx2 or avx512vnni");
}

const Kernel* find_kernel(std::string_view name) {
  for (const Kernel& kernel : kTable)
    if (name == kernel.name) return &kernel;
  return nullptr;
}

const Kernel* choose_kernel(int opcode, int variant, bool x_is_q8, Isa highest) {
  const Kernel* best = nullptr;
  for (const Kernel& kernel : kTable) {
    const bool serves = kernel.opcode == opcode && kernel.variant == variant &&
                        (kernel.x_is_q8 != 0) == x_is_q8 && kernel.isa <= highest;
    if (serves && (!best || kernel.isa > best->isa)) best = &kernel;
  }
  return best;
}

}  // namespace hearth
