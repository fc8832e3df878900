// Python's view of the kernel table, and call(): one kernel over arrays, for tests and benchmarks.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <stdexcept>
#include <string>

#include "attributes.h"
#include "contracts.h"
#include "table.h"

namespace nb = nanobind;

namespace hearth {
namespace {

using AnyArray = nb::ndarray<nb::ro, nb::device::cpu, nb::c_contig>;

struct CallArguments {
  Command command{};
  size_t sizes[kMaxOperands] = {};
  std::vector<AnyArray> held;
};

void check_counts(const Kernel& kernel, int64_t rows, int64_t tokens, int64_t position, int threads) {
  constexpr int64_t most = int64_t{1} << 28;
  if (rows < 0 || tokens < 0 || position < 0 || rows > most || tokens > most || position > most)
    throw std::invalid_argument("rows, tokens and position are >= 0 and at most 2^28");
  if (threads < 1) throw std::invalid_argument("threads is >= 1");
  if ((kernel.opcode == kLastRows || kernel.opcode == kPool) && rows > tokens) throw std::invalid_argument("rows is above tokens");
}

// What operand_extent cannot know: a rope names no context, its tables must hold these positions.
void check_positions(const CallArguments& arguments, int64_t end) {
  const Command& command = arguments.command;
  const int64_t context = context_of(command);
  if (context >= 0 && end > context) throw std::invalid_argument("position + rows is above the context");
  if (command.opcode != kRope) return;
  for (int i : {1, 2})
    if (int64_t(arguments.sizes[i]) < end * (ints_of<RopeInts>(command).rotary_dim / 2) * 4)
      throw std::invalid_argument("position + rows is above the positions of the tables");
}

// Operands by address, with every array large enough for what the kernel reads and writes.
CallArguments resolve(const Kernel& kernel, nb::sequence operands, const std::vector<int64_t>& strides,
                      const std::vector<int64_t>& ints, const std::vector<float>& floats, int64_t rows,
                      int64_t tokens) {
  const Contract& contract = *find_contract(kernel.opcode);
  CallArguments out;
  Command& command = out.command;
  command.opcode = kernel.opcode;
  const size_t count = contract.operands.size();
  if (nb::len(operands) != count || strides.size() != count || ints.size() != contract.ints.size() ||
      floats.size() != float_count(contract, ints))
    throw std::invalid_argument(std::string(contract.name) + ": wrong number of operands, strides or attributes");
  std::copy(strides.begin(), strides.end(), command.stride);
  std::copy(ints.begin(), ints.end(), command.ints);
  std::copy(floats.begin(), floats.end(), command.floats);
  for (size_t i = 0; i < count; ++i) {
    nb::object given = operands[i];
    if (given.is_none()) continue;
    AnyArray array;
    if (!nb::try_cast<AnyArray>(given, array, false))
      throw std::invalid_argument(std::string(contract.operands[i].name) + ": not a contiguous array");
    command.operand[i] = const_cast<void*>(array.data());
    out.sizes[i] = array.nbytes();
    if (!command.operand[i]) command.operand[i] = out.held.data();  // empty: present, nothing read
    out.held.push_back(std::move(array));
  }
  check_attributes(contract, command);
  if (variant_of(command) != kernel.variant) throw std::invalid_argument("the kernel is of another variant");
  for (size_t i = 0; i < count; ++i) {
    if (!command.operand[i]) continue;
    const Extent extent = operand_extent(contract, command, int(i), rows, tokens, kernel.x_is_q8);
    if (extent.nbytes > int64_t(out.sizes[i]))
      throw std::invalid_argument(std::string(contract.operands[i].name) + ": " + std::to_string(out.sizes[i]) +
                                  " bytes, the kernel needs " + std::to_string(extent.nbytes));
    if (reinterpret_cast<uintptr_t>(command.operand[i]) % extent.alignment)
      throw std::invalid_argument(std::string(contract.operands[i].name) + ": not aligned to " +
                                  std::to_string(extent.alignment) + " bytes");
  }
  return out;
}

void call_kernel(const std::string& name, nb::sequence operands, const std::vector<int64_t>& strides,
                 const std::vector<int64_t>& ints, const std::vector<float>& floats, int64_t rows,
                 int64_t tokens, int64_t position, int threads) {
  const Kernel* kernel = find_kernel(name);
  if (!kernel) throw std::invalid_argument("no kernel named " + name);
  isa_named(isa_name(kernel->isa));
  check_counts(*kernel, rows, tokens, position, threads);
  const CallArguments arguments = resolve(*kernel, operands, strides, ints, floats, rows, tokens);
  check_positions(arguments, position + rows);
  // Ones: a kernel that reads scratch it did not write finds NaNs.
  const size_t nbytes = kernel->scratch(arguments.command, rows);
  std::vector<std::byte> memory(nbytes + 64, std::byte{0xff});
  const auto base = reinterpret_cast<uintptr_t>(memory.data());
  auto* scratch = reinterpret_cast<std::byte*>(align_up(int64_t(base), 64));
  for (int thread = 0; thread < threads; ++thread)
    kernel->run(arguments.command, Call{rows, tokens, position, thread, threads, scratch});
}

nb::dict contract_specs() {
  nb::dict out;
  for (const Contract& contract : contracts()) {
    nb::list operands;
    for (const OperandSpec& spec : contract.operands) {
      nb::list kinds;
      kinds.append(kind_name(spec.kind));
      if (spec.or_q8) kinds.append(kind_name(kQ8));
      if (spec.or_vector) kinds.append(kind_name(kVector));
      operands.append(nb::make_tuple(spec.name, role_name(spec.role), nb::tuple(kinds), spec.optional));
    }
    nb::list ints, floats, fixed;
    for (auto name : contract.ints) ints.append(name);
    for (auto name : contract.floats) floats.append(name);
    for (auto name : contract.fixed) fixed.append(name);
    out[nb::cast(contract.name)] = nb::make_tuple(nb::tuple(operands), nb::tuple(ints), nb::tuple(floats),
                                                  contract.by_segment, nb::tuple(fixed));
  }
  return out;
}

}  // namespace

void bind_table(nb::module_& m) {
  nb::class_<Kernel>(m, "Kernel")
      .def_prop_ro("name", [](const Kernel& k) { return std::string(k.name); })
      .def_prop_ro("opcode", [](const Kernel& k) { return k.opcode; })
      .def_prop_ro("variant", [](const Kernel& k) { return k.variant; })
      .def_prop_ro("x_is_q8", [](const Kernel& k) { return k.x_is_q8 != 0; })
      .def_prop_ro("isa", [](const Kernel& k) { return std::string(isa_name(k.isa)); })
      .def_prop_ro("exact", [](const Kernel& k) { return k.exact; });
  m.def("isas", [] {
    std::vector<std::string> names;
    for (Isa isa : cpu_isas()) names.emplace_back(isa_name(isa));
    return names;
  });
  m.def(
      "assume_isa", [](const std::string& name, bool there) { assume_isa(known_isa(name), there); }, nb::arg("name"),
      nb::arg("there") = true);
  m.def("contracts", [] {
    nb::dict out;
    for (const Contract& contract : contracts()) out[nb::cast(contract.name)] = contract.opcode;
    return out;
  });
  m.def("contract_specs", &contract_specs);
  m.def("kernels", [] {
    const auto table = kernel_table();
    return std::vector<Kernel>(table.begin(), table.end());
  });
  m.def("call", &call_kernel, nb::arg("kernel"), nb::arg("operands"), nb::arg("strides"), nb::arg("ints"),
        nb::arg("floats"), nb::kw_only(), nb::arg("rows"), nb::arg("tokens"), nb::arg("position") = 0,
        nb::arg("threads") = 1);
}

}  // namespace hearth
