// The kernel table: every row of every family's kernels.def, and the choice among them.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "kernel.h"

namespace hearth {

std::span<const Kernel> kernel_table();

// ISAs this CPU and its operating system have, slowest first.
std::vector<Isa> cpu_isas();
std::string_view isa_name(Isa isa);
// Take the ISA for one this CPU has, or no longer: for tests that emulate its instructions. Not while kernels run.
// Throws std::invalid_argument where the CPU lacks what an emulator does not bring (for amx: avx512vnni).
void assume_isa(Isa isa, bool there);
// Throws std::invalid_argument for a name not known.
Isa known_isa(std::string_view name);
// Throws std::invalid_argument for an ISA this CPU lacks too.
Isa isa_named(std::string_view name);

const Kernel* find_kernel(std::string_view name);
// The row of the highest ISA not above `highest`; null where there is none.
const Kernel* choose_kernel(int opcode, int variant, bool x_is_q8, Isa highest);

}  // namespace hearth
