// Engine and State for Python: arguments are checked here or in the engine, and a run holds no GIL.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <stdexcept>

#include "executor/count.h"
#include "executor/engine.h"

namespace nb = nanobind;

namespace hearth {
namespace {

using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using AnyInput = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;
using AnyOutput = nb::ndarray<nb::c_contig, nb::device::cpu>;
constexpr size_t kMaxSegments = 256;  // of one run
using StampArray = nb::ndarray<int64_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using StateArray = nb::ndarray<nb::numpy, uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Place = std::tuple<int, int64_t, int64_t>;
using PortPlace = std::tuple<int64_t, int64_t, int64_t>;  // a port: offset, columns, rows

// An engine and the array that keeps its weights mapped.
struct BoundEngine {
  Bytes weights;
  Engine engine;

  BoundEngine(Bytes array, int64_t arena, int64_t io, int64_t kv, int threads, const std::string& isa)
      : weights(array),
        engine({reinterpret_cast<const std::byte*>(array.data()), array.size()}, {arena, io, kv}, threads,
               isa_named(isa)) {}
};

// An adapter, the engine it is bound to and the array that keeps its data mapped.
struct BoundAdapter {
  Bytes data;
  const BoundEngine* engine;
  Adapter adapter;
};

using PartPlace = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int64_t>;

BoundAdapter make_adapter(BoundEngine& self, Bytes data, int form, const std::vector<PartPlace>& given) {
  std::vector<AdapterPart> parts;
  for (const auto& [weight, ranks, layout, a, bias, b] : given) parts.push_back({weight, ranks, layout, a, bias, b});
  const std::span bytes(reinterpret_cast<const std::byte*>(data.data()), data.size());
  return {data, &self, self.engine.adapter(bytes, form, parts)};
}

// The adapter a run may use; null for none.
const Adapter* adapter_of(const BoundEngine& self, const BoundAdapter* given) {
  if (!given) return nullptr;
  if (given->engine != &self) throw std::invalid_argument("the adapter is of another engine");
  return &given->adapter;
}

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

// The array given for a port: i32[rows] or f32[rows][columns], in order and writable where Array says so.
template <class Array>
PortData port_data(const Array& array, bool output) {
  const bool ids = array.dtype() == nb::dtype<int32_t>() && array.ndim() == 1 && !output;
  if (!ids && !(array.dtype() == nb::dtype<float>() && array.ndim() == 2))
    throw nb::type_error(output ? "an output must be f32[rows, columns]" : "an input must be i32[rows] or f32[rows, columns]");
  return {const_cast<void*>(static_cast<const void*>(array.data())), int64_t(array.shape(0)),
          ids ? 0 : int64_t(array.shape(1))};
}

// The arrays of a list, held while the run reads and writes them.
template <class Array>
struct Arrays {
  Array arrays[kMaxPorts];
  PortData data[kMaxPorts];
  size_t count;

  Arrays(const nb::list& given, bool output) : count(given.size()) {
    if (count > kMaxPorts) throw std::invalid_argument("too many arrays");
    for (size_t i = 0; i < count; ++i) {
      if (!nb::try_cast(given[i], arrays[i], false))
        throw nb::type_error(output ? "an output must be a writable C-ordered array" : "an input must be a C-ordered array");
      data[i] = port_data(arrays[i], output);
    }
  }
  std::span<const PortData> span() const { return {data, count}; }
};

void run(BoundEngine& self, Pages& state, int entry, int64_t tokens, int64_t position, const nb::list& inputs,
         const nb::list& outputs, const BoundAdapter* given, float scale) {
  const Adapter* const adapter = adapter_of(self, given);
  const Arrays<AnyInput> in(inputs, false);
  const Arrays<AnyOutput> out(outputs, true);
  self.engine.revive();
  const nb::gil_scoped_release release;
  self.engine.run(state, entry, tokens, position, in.span(), out.span(), adapter, scale);
}

// (state, tokens, position, rows), perhaps with (adapter, scale), of each sequence; state and adapter are held while the
// run uses them.
struct Segments {
  nb::object states[kMaxSegments], adapters[kMaxSegments];
  Segment data[kMaxSegments];
  size_t count;

  Segments(const BoundEngine& engine, const nb::list& given) : count(given.size()) {
    if (count > kMaxSegments) throw std::invalid_argument("at most " + std::to_string(kMaxSegments) + " segments");
    for (size_t i = 0; i < count; ++i) read(engine, given[i], i);
  }
  void read(const BoundEngine& engine, const nb::handle& given, size_t i) {
    std::tuple<nb::object, int64_t, int64_t, int64_t> plain;
    std::tuple<nb::object, int64_t, int64_t, int64_t, nb::object, double> whole;
    if (nb::try_cast(given, plain, false)) {
      const auto& [state, tokens, position, rows] = plain;
      whole = {state, tokens, position, rows, nb::none(), 1.0};
    } else if (!nb::try_cast(given, whole, false)) {
      refuse_segment();
    }
    const auto& [state, tokens, position, rows, adapter, scale] = whole;
    Pages* kv = nullptr;
    BoundAdapter* used = nullptr;
    if (!nb::try_cast(state, kv, false) || !kv) refuse_segment();
    if (!adapter.is_none() && !nb::try_cast(adapter, used, false)) refuse_segment();
    data[i] = {kv, tokens, position, rows, adapter_of(engine, used), float(scale)};
    states[i] = state, adapters[i] = adapter;
  }
  [[noreturn]] static void refuse_segment() {
    throw nb::type_error("a segment is (state, tokens, position, rows) or (state, tokens, position, rows, adapter, scale)");
  }
  std::span<const Segment> span() const { return {data, count}; }
};

void run_segments(BoundEngine& self, int entry, const nb::list& segments, const nb::list& inputs,
                  const nb::list& outputs) {
  const Segments of(self, segments);
  const Arrays<AnyInput> in(inputs, false);
  const Arrays<AnyOutput> out(outputs, true);
  self.engine.revive();
  const nb::gil_scoped_release release;
  self.engine.run_segments(entry, of.span(), in.span(), out.span());
}

// Fills i64[threads][commands][2] with the last run's stamps.
void read_stamps(BoundEngine& self, int entry, const StampArray& out) {
  const std::vector<Stamp> stamps = self.engine.stamps(entry);
  static_assert(sizeof(Stamp) == 16);
  if (out.size() != stamps.size() * 2) throw std::invalid_argument("the array is not [threads, commands, 2], or there is no profile");
  std::ranges::copy(stamps, reinterpret_cast<Stamp*>(out.data()));
}

using Cores = std::vector<int>;

cpu_set_t core_set(const Cores& cores) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (int core : cores) {
    if (core < 0 || core >= CPU_SETSIZE) throw std::invalid_argument("no such core");
    CPU_SET(core, &set);
  }
  return set;
}

Cores cores_in(const cpu_set_t& set) {
  Cores cores;
  for (int core = 0; core < CPU_SETSIZE; ++core)
    if (CPU_ISSET(core, &set)) cores.push_back(core);
  return cores;
}

void place(BoundEngine& self, int entry, const std::vector<Cores>& cores, bool asked) {
  Placement placement{{}, asked};
  for (const Cores& each : cores) placement.cores.push_back(core_set(each));
  self.engine.place(entry, std::move(placement));
}

std::tuple<std::vector<Cores>, bool> placement(BoundEngine& self, int entry) {
  const Placement found = self.engine.placement(entry);
  std::vector<Cores> cores;
  for (const cpu_set_t& set : found.cores) cores.push_back(cores_in(set));
  return {cores, found.asked};
}

std::vector<std::tuple<Cores, Cores>> whereabouts(BoundEngine& self, int entry) {
  std::vector<std::tuple<Cores, Cores>> found;
  for (const Whereabouts& each : self.engine.whereabouts(entry))
    found.emplace_back(cores_in(each.allowed), cores_in(each.ran_on));
  return found;
}

std::vector<Port> ports(const std::vector<PortPlace>& given) {
  std::vector<Port> found;
  for (const auto& [offset, columns, rows] : given) found.push_back({offset, columns, rows});
  return found;
}

}  // namespace

void bind_engine(nb::module_& m) {
  m.def("allocations", &allocations);
  m.attr("MAX_SEGMENTS") = kMaxSegments;
  nb::class_<Pages>(m, "State")
      .def("__init__", [](Pages* self, int64_t nbytes) { new (self) Pages(make_state(nbytes)); },
           nb::arg("kv_nbytes"))
      .def("array", [](nb::handle self) {
        const auto& state = nb::cast<const Pages&>(self);
        const size_t shape[] = {state.nbytes()};
        return StateArray(state.data(), 1, shape, self);
      });
  nb::class_<BoundAdapter>(m, "Adapter");
  nb::class_<BoundEngine>(m, "Engine")
      .def(nb::init<Bytes, int64_t, int64_t, int64_t, int, const std::string&>(), nb::arg("weights").noconvert(),
           nb::arg("arena_nbytes"), nb::arg("io_nbytes"), nb::arg("kv_nbytes"), nb::arg("threads"), nb::arg("isa"))
      .def("add_entry",
           [](BoundEngine& self, int64_t max_tokens, int64_t max_logits, const std::vector<PortPlace>& inputs,
              const std::vector<PortPlace>& outputs) {
             return self.engine.add_entry({max_tokens, max_logits, ports(inputs), ports(outputs)});
           },
           nb::arg("max_tokens"), nb::arg("max_logits"), nb::arg("inputs"), nb::arg("outputs"))
      .def("add_command", &add_command, nb::arg("entry"), nb::arg("opcode"), nb::arg("rows"), nb::arg("operands"),
           nb::arg("ints"), nb::arg("floats"))
      .def("finish", [](BoundEngine& self) { self.engine.finish(); })
      .def("adapter", &make_adapter, nb::arg("data").noconvert(), nb::arg("form"), nb::arg("parts"), nb::keep_alive<0, 1>())
      .def("run", &run, nb::arg("state"), nb::arg("entry"), nb::arg("tokens"), nb::arg("position"),
           nb::arg("inputs"), nb::arg("outputs"), nb::arg("adapter").none() = nb::none(), nb::arg("scale") = 1.0f)
      .def("run_segments", &run_segments, nb::arg("entry"), nb::arg("segments"), nb::arg("inputs"),
           nb::arg("outputs"))
      .def("start_profile", [](BoundEngine& self) { self.engine.start_profile(); })
      .def("read_stamps", &read_stamps, nb::arg("entry"), nb::arg("out").noconvert())
      .def("map_cached", [](BoundEngine& self) { self.engine.map_cached(); })
      .def("place", &place, nb::arg("entry"), nb::arg("cores"), nb::arg("asked"),
           nb::call_guard<nb::gil_scoped_release>())
      .def("placement", &placement, nb::arg("entry"), nb::call_guard<nb::gil_scoped_release>())
      .def("whereabouts", &whereabouts, nb::arg("entry"), nb::call_guard<nb::gil_scoped_release>())
      .def_prop_ro("isa", [](BoundEngine& self) { return std::string(isa_name(self.engine.isa())); })
      .def_prop_ro("threads", [](BoundEngine& self) { return self.engine.threads(); })
      .def("one_sequence", [](BoundEngine& self, int entry) { return self.engine.one_sequence(entry); },
           nb::arg("entry"))
      .def("kernel_names", [](BoundEngine& self, int entry) { return self.engine.kernel_names(entry); },
           nb::arg("entry"));
}

}  // namespace hearth
