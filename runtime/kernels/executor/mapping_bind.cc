// Mapping for Python: an array that keeps the file mapped.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include "executor/mapping.h"

namespace nb = nanobind;

namespace hearth {
namespace {

using Array = nb::ndarray<nb::numpy, const uint8_t, nb::ndim<1>, nb::c_contig>;

[[noreturn]] void raise_errno() {
  PyErr_SetFromErrno(PyExc_OSError);
  throw nb::python_error();
}

void make(Mapping* self, int descriptor, size_t nbytes) {
  new (self) Mapping(descriptor, nbytes);
  if (self->data()) return;
  self->~Mapping();
  raise_errno();
}

void populate(const Mapping& self, size_t offset, size_t nbytes) {
  bool done;
  {
    const nb::gil_scoped_release release;
    done = self.populate(offset, nbytes);
  }
  if (!done) raise_errno();
}

void lock(const Mapping& self) {
  bool done;
  {
    const nb::gil_scoped_release release;
    done = self.lock();
  }
  if (!done) raise_errno();
}

}  // namespace

void bind_mapping(nb::module_& m) {
  nb::class_<Mapping>(m, "Mapping")
      .def("__init__", &make, nb::arg("descriptor"), nb::arg("nbytes"))
      .def("array", [](nb::handle self) {
        const auto& mapping = nb::cast<const Mapping&>(self);
        const size_t shape[] = {mapping.nbytes()};
        return Array(mapping.data(), 1, shape, self);
      })
      .def("populate", &populate, nb::arg("offset"), nb::arg("nbytes"))
      .def("lock", &lock)
      .def("forget", &Mapping::forget, nb::call_guard<nb::gil_scoped_release>())
      .def_prop_ro("sees_the_cache", &Mapping::sees_the_cache);
}

}  // namespace hearth
