// The Python module hearth.runtime.native: each part binds itself.
#include <nanobind/nanobind.h>

namespace hearth {
void bind_table(nanobind::module_&);     // table.cc: kernels(), contracts(), isas(), call()
void bind_engine(nanobind::module_&);    // executor/bind.cc: Engine, State
void bind_mapping(nanobind::module_&);   // executor/mapping_bind.cc: Mapping
void bind_quantise(nanobind::module_&);  // quantise/bind.cc: rtn
void bind_searches(nanobind::module_&);  // quantise/bind_search.cc: searches over grids, GPTQ
void bind_limits(nanobind::module_&);    // limits/bind.cc: measure_read(), measure_peak()
void bind_sampling(nanobind::module_&);  // sampling/bind.cc: choose_token()
}  // namespace hearth

NB_MODULE(native, m) {
  nanobind::set_leak_warnings(false);  // an engine alive when the interpreter ends is no mistake
  m.doc() = "Kernels and executor of Hearth.";
  hearth::bind_table(m);
  hearth::bind_engine(m);
  hearth::bind_mapping(m);
  hearth::bind_quantise(m);
  hearth::bind_searches(m);
  hearth::bind_limits(m);
  hearth::bind_sampling(m);
}
