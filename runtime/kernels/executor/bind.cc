// Engine and State for Python: arguments are checked here or in the engine, and a run holds no GIL.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>

#include "executor/count.h"
#include "executor/engine.h"

namespace nb = nanobind;

namespace hearth {
namespace {

using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Tokens = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Logits = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Place = std::tuple<int, int64_t, int64_t>;

// An engine and the array that keeps its weights mapped.
struct BoundEngine {
  Bytes weights;
  Engine engine;

  BoundEngine(Bytes array, int64_t arena, int64_t io, int64_t kv, int threads, const std::string& isa)
      : weights(array),
        engine({reinterpret_cast<const std::byte*>(array.data()), array.size()}, {arena, io, kv}, threads,
               isa_named(isa)) {}
};

Pages make_state(int64_t nbytes) {
  if (nbytes < 0) throw std::invalid_argument("kv_nbytes is negative");
  return Pages(size_t(nbytes));
}

void add_command(BoundEngine& self, int entry, int opcode, int64_t rows,
                 const std::vector<std::optional<Place>>& operands, const std::vector<int64_t>& ints,
                 const std::vector<float>& floats) {
  std::vector<std::optional<OperandPlace>> places(operands.size());
  for (size_t i = 0; i < operands.size(); ++i)
    if (operands[i]) {
      const auto [region, offset, stride] = *operands[i];
      places[i] = OperandPlace{region, offset, stride};
    }
  self.engine.add_command(entry, opcode, rows, places, ints, floats);
}

void run(BoundEngine& self, Pages& state, int entry, Tokens tokens, int64_t position, Logits logits) {
  const int64_t rows = int64_t(logits.shape(0)), vocab = self.engine.vocab(entry);
  if (int64_t(logits.shape(1)) != vocab)
    throw std::invalid_argument("logits has " + std::to_string(logits.shape(1)) + " columns, the vocabulary " +
                                std::to_string(vocab));
  self.engine.revive();
  const nb::gil_scoped_release release;
  self.engine.run(state, entry, {tokens.data(), tokens.size()}, position, logits.data(), rows);
}

}  // namespace

void bind_engine(nb::module_& m) {
  m.def("allocations", &allocations);
  nb::class_<Pages>(m, "State")
      .def("__init__", [](Pages* self, int64_t nbytes) { new (self) Pages(make_state(nbytes)); },
           nb::arg("kv_nbytes"));
  nb::class_<BoundEngine>(m, "Engine")
      .def(nb::init<Bytes, int64_t, int64_t, int64_t, int, const std::string&>(), nb::arg("weights").noconvert(),
           nb::arg("arena_nbytes"), nb::arg("io_nbytes"), nb::arg("kv_nbytes"), nb::arg("threads"), nb::arg("isa"))
      .def("add_entry",
           [](BoundEngine& self, int64_t max_tokens, int64_t max_logits, int64_t tokens_offset,
              int64_t logits_offset, int64_t vocab) {
             return self.engine.add_entry({max_tokens, max_logits, tokens_offset, logits_offset, vocab});
           },
           nb::arg("max_tokens"), nb::arg("max_logits"), nb::arg("tokens_offset"), nb::arg("logits_offset"),
           nb::arg("vocab"))
      .def("add_command", &add_command, nb::arg("entry"), nb::arg("opcode"), nb::arg("rows"), nb::arg("operands"),
           nb::arg("ints"), nb::arg("floats"))
      .def("finish", [](BoundEngine& self) { self.engine.finish(); })
      .def("run", &run, nb::arg("state"), nb::arg("entry"), nb::arg("tokens").noconvert(), nb::arg("position"),
           nb::arg("logits").noconvert())
      .def_prop_ro("isa", [](BoundEngine& self) { return std::string(isa_name(self.engine.isa())); })
      .def_prop_ro("threads", [](BoundEngine& self) { return self.engine.threads(); })
      .def("kernel_names", [](BoundEngine& self, int entry) { return self.engine.kernel_names(entry); },
           nb::arg("entry"));
}

}  // namespace hearth
