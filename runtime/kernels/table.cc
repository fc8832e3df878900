// The kernel table, made by including each family's kernels.def; what this CPU can run; the choice of a row.
//
// A row is KERNEL(name, opcode, variant, x_is_q8, isa, exact, run, scratch): isa is portable, avx2,
// avx512vnni or amx, and run and scratch are functions of namespace hearth::<isa>. KERNELS(...), without the isa,
// makes one row per ISA that serves every contract, named <name>_<isa>; KERNELS_AMX(...) makes the row for amx,
// which serves the integer linears alone (for the rest the next ISA below is chosen).
#include "table.h"

#include <atomic>
#include <stdexcept>
#include <string>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KERNELS(name, opcode, variant, x_is_q8, exact, run, scratch)                          \
  KERNEL(name##_portable, opcode, variant, x_is_q8, portable, exact, run, scratch)            \
  KERNEL(name##_avx2, opcode, variant, x_is_q8, avx2, exact, run, scratch)                    \
  KERNEL(name##_avx512vnni, opcode, variant, x_is_q8, avx512vnni, exact, run, scratch)
#define KERNELS_AMX(name, opcode, variant, x_is_q8, exact, run, scratch) \
  KERNEL(name##_amx, opcode, variant, x_is_q8, amx, exact, run, scratch)
#else
#define KERNELS(name, opcode, variant, x_is_q8, exact, run, scratch) \
  KERNEL(name##_portable, opcode, variant, x_is_q8, portable, exact, run, scratch)
#define KERNELS_AMX(name, opcode, variant, x_is_q8, exact, run, scratch)
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

[[maybe_unused]] constexpr Isa isa_portable = kPortable, isa_avx2 = kAvx2, isa_avx512vnni = kAvx512Vnni,
                              isa_amx = kAmx;

constexpr Kernel kTable[] = {
#define KERNEL(name, opcode, variant, x_is_q8, isa, exact, run, scratch) \
  {#name, opcode, variant, x_is_q8, isa_##isa, exact, isa::run, isa::scratch},
#include "all_kernels.def"
#undef KERNEL
};

constexpr std::string_view kIsaNames[kIsas] = {"portable", "avx2", "avx512vnni", "amx"};

std::atomic<bool> amx_assumed{false};

#if defined(__x86_64__)
// The CPU has tiles and int8 products, the operating system keeps tiles (XCR0), and it lets this process use them:
// Linux gives a process the large state of tiles only when asked, and may refuse.
bool ask_for_amx() {
  constexpr unsigned osxsave = 1u << 27, tile_and_int8 = 3u << 24, tile_state = 3u << 17;
  constexpr long request_permission = 0x1023, tile_data = 18;  // arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & osxsave)) return false;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & tile_and_int8) != tile_and_int8) return false;
  unsigned enabled, high;
  asm("xgetbv" : "=a"(enabled), "=d"(high) : "c"(0));
  return (enabled & tile_state) == tile_state && syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

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
    case kAmx: {
      static const bool allowed = cpu_has(kAvx512Vnni) && ask_for_amx();  // asked once
      return allowed || amx_assumed;
    }
    default: return false;
  }
}
#else
bool cpu_has(Isa isa) { return isa == kPortable; }
#endif

}  // namespace

std::span<const Kernel> kernel_table() { return kTable; }

std::vector<Isa> cpu_isas() {
  std::vector<Isa> found;
  for (int isa = 0; isa < kIsas; ++isa)
    if (cpu_has(Isa(isa))) found.push_back(Isa(isa));
  return found;
}

void assume_isa(Isa isa, bool there) {
  if (isa != kAmx || !cpu_has(kAvx512Vnni))
    throw std::invalid_argument("the ISA " + std::string(isa_name(isa)) + " cannot be assumed on this CPU");
  amx_assumed = there;
}

std::string_view isa_name(Isa isa) { return kIsaNames[isa]; }

Isa isa_named(std::string_view name) {
  const Isa isa = known_isa(name);
  if (!cpu_has(isa)) throw std::invalid_argument("this CPU lacks the ISA " + std::string(name));
  return isa;
}

Isa known_isa(std::string_view name) {
  for (int isa = 0; isa < kIsas; ++isa)
    if (name == kIsaNames[isa]) return Isa(isa);
  throw std::invalid_argument("unknown ISA '" + std::string(name) +
                              "'; expected portable, avx2, avx512vnni or amx");
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
