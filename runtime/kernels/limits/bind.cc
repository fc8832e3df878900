// Python: native.measure_read, native.measure_read_of and native.measure_peak, without the GIL.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "limits/limits.h"
#include "table.h"

namespace nb = nanobind;

namespace hearth {
namespace {
using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
}

void bind_limits(nb::module_& m) {
  m.def("measure_read",
        [](int64_t nbytes, int threads, double seconds) {
          const nb::gil_scoped_release release;
          return measure_read(nbytes, threads, seconds);
        },
        nb::arg("nbytes"), nb::arg("threads"), nb::arg("seconds"));
  m.def("measure_read_of",
        [](const Bytes& array, int threads, double seconds) {
          const std::span memory(reinterpret_cast<const std::byte*>(array.data()), array.size());
          const nb::gil_scoped_release release;
          return measure_read(memory, threads, seconds);
        },
        nb::arg("memory").noconvert(), nb::arg("threads"), nb::arg("seconds"));
  m.def("measure_peak",
        [](const std::string& kind, int threads, const std::string& isa, double seconds) {
          const nb::gil_scoped_release release;
          return measure_peak(kind, threads, isa_named(isa), seconds);
        },
        nb::arg("kind"), nb::arg("threads"), nb::arg("isa"), nb::arg("seconds"));
}

}  // namespace hearth
