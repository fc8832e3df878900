// Engine and State for Python.
#include <nanobind/nanobind.h>

namespace hearth {

void bind_engine(nanobind::module_&) {}

}  // namespace hearth
