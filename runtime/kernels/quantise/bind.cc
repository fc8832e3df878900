// Python: native.rtn_int4 and native.rtn_int8, over as many threads as asked for, without the GIL.
#include "quantise/rows.h"
#include "quantise/rtn.h"

namespace hearth {
namespace {

void int4(Matrix weights, int64_t group, Codes codes, Codes multipliers, Scales scale, int threads) {
  const int64_t n = static_cast<int64_t>(weights.shape(0)), k = static_cast<int64_t>(weights.shape(1));
  need(group > 0, "rtn_int4: group must be positive");
  const int64_t groups = (k + group - 1) / group;
  const auto has = [](const auto& array, int64_t rows, int64_t columns) {
    return static_cast<int64_t>(array.shape(0)) == rows && static_cast<int64_t>(array.shape(1)) == columns;
  };
  need(has(codes, n, k), "rtn_int4: codes must be i8[N, K]");
  need(has(multipliers, n, groups), "rtn_int4: multipliers must be i8[N, ceil(K / group)]");
  need(static_cast<int64_t>(scale.shape(0)) == n, "rtn_int4: scale must be f32[N]");
  const RtnInt4 task{weights.data(), n, k, group, codes.data(), multipliers.data(), scale.data()};
  nb::gil_scoped_release release;
  over_rows(task, rtn_scratch(k, group), threads,
            pick(&portable::rtn_int4, &avx2::rtn_int4, &avx512vnni::rtn_int4));
}

void int8(Matrix weights, Codes codes, Scales scale, int threads) {
  const int64_t n = static_cast<int64_t>(weights.shape(0)), k = static_cast<int64_t>(weights.shape(1));
  need(codes.shape(0) == weights.shape(0) && codes.shape(1) == weights.shape(1),
       "rtn_int8: codes must be i8[N, K]");
  need(static_cast<int64_t>(scale.shape(0)) == n, "rtn_int8: scale must be f32[N]");
  const RtnInt8 task{weights.data(), n, k, codes.data(), scale.data()};
  nb::gil_scoped_release release;
  over_rows(task, rtn_scratch(k, 16), threads,
            pick(&portable::rtn_int8, &avx2::rtn_int8, &avx512vnni::rtn_int8));
}

}  // namespace

void bind_quantise(nb::module_& m) {
  m.def("rtn_int4", &int4, nb::arg("weights"), nb::arg("group"), nb::arg("codes").noconvert(), nb::arg("multipliers").noconvert(),
        nb::arg("scale").noconvert(), nb::arg("threads"));
  m.def("rtn_int8", &int8, nb::arg("weights"), nb::arg("codes").noconvert(), nb::arg("scale").noconvert(), nb::arg("threads"));
}

}  // namespace hearth
