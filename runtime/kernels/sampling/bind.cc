// Python: native.not_finite, native.choose_token and what it is made of, without the GIL.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "executor/refuse.h"
#include "sampling/sample.h"
#include "table.h"

namespace nb = nanobind;

namespace hearth::sampling {
namespace {

template <class T>
using Vector = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Logits = Vector<float>;
using Mask = std::optional<Vector<uint32_t>>;
using NumpyWeights = nb::ndarray<nb::numpy, int64_t, nb::ndim<1>>;

constexpr size_t kMostTokens = size_t{1} << 20;

std::span<const float> tokens_of(const Logits& logits) {
  require(logits.size() > 0 && logits.size() <= kMostTokens, "logits must be f32[V] with V in 1..2^20");
  return {logits.data(), logits.size()};
}

const Passes& passes_named(const std::optional<std::string>& isa) {
  return passes_of(isa ? isa_named(*isa) : cpu_isas().back());
}

Question question(const Logits& logits, const Vector<int64_t>& changed, const Vector<double>& scores,
                  const Mask& mask, double temperature, int64_t top_k, double top_p, double min_p,
                  double typical_p) {
  const Question q{tokens_of(logits), {changed.data(), changed.size()}, {scores.data(), scores.size()},
                   mask ? mask->data() : nullptr, mask ? int64_t(mask->size()) : 0, temperature, top_k, top_p,
                   min_p, typical_p};
  require(changed.size() == scores.size(), "changed and scores must be of one length");
  for (const int64_t token : q.changed)
    require(token >= 0 && token < int64_t(logits.size()), "changed must be tokens");
  require(temperature >= 0 && top_k >= 0 && top_p > 0 && min_p >= 0 && min_p <= 1 && typical_p > 0,
          "settings out of range");
  return q;
}

std::optional<int64_t> chosen(int64_t token) { return token < 0 ? std::nullopt : std::optional(token); }

std::optional<int64_t> choose_token(const Logits& logits, const Vector<int64_t>& changed,
                                    const Vector<double>& scores, const Mask& mask, double temperature,
                                    int64_t top_k, double top_p, double min_p, double typical_p, uint64_t number,
                                    const std::optional<std::string>& isa) {
  const Question q = question(logits, changed, scores, mask, temperature, top_k, top_p, min_p, typical_p);
  const Passes& passes = passes_named(isa);
  const nb::gil_scoped_release release;
  return chosen(temperature == 0 ? greedy(q, passes) : draw(q, number, passes));
}

NumpyWeights token_weights(const Logits& logits, const Vector<int64_t>& changed, const Vector<double>& scores,
                           const Mask& mask, double temperature, int64_t top_k, double top_p, double min_p,
                           double typical_p, const std::optional<std::string>& isa) {
  require(temperature > 0, "temperature must be above 0");
  const Question q = question(logits, changed, scores, mask, temperature, top_k, top_p, min_p, typical_p);
  auto* values = new int64_t[logits.size()]();
  const nb::capsule owner(values, [](void* p) noexcept { delete[] static_cast<int64_t*>(p); });
  weigh(q, passes_named(isa), {values, logits.size()});
  return NumpyWeights(values, {logits.size()}, owner);
}

int64_t not_finite(const Logits& logits, const std::optional<std::string>& isa) {
  const auto tokens = tokens_of(logits);
  return passes_named(isa).scan(tokens.data(), int64_t(tokens.size())).bad;
}

std::pair<std::vector<int64_t>, int64_t> ranked_and_weighed(const Logits& logits, int64_t count,
                                                            const std::optional<std::string>& isa) {
  require(count >= 0, "count must be 0 or more");
  const auto tokens = tokens_of(logits);
  const Passes& passes = passes_named(isa);
  const nb::gil_scoped_release release;
  Ranked all = ranked(tokens, count, passes);
  return {std::move(all.tokens), all.weight};
}

std::vector<int64_t> best(const Logits& logits, int64_t count) {
  require(count >= 0, "count must be 0 or more");
  return best_tokens(tokens_of(logits), count);
}

}  // namespace
}  // namespace hearth::sampling

namespace hearth {

void bind_sampling(nb::module_& m) {
  using namespace nb::literals;
  m.def("not_finite", &sampling::not_finite, "logits"_a.noconvert(), "isa"_a = nb::none());
  m.def("choose_token", &sampling::choose_token, "logits"_a.noconvert(), "changed"_a.noconvert(), "scores"_a.noconvert(),
        "mask"_a.none().noconvert(), "temperature"_a, "top_k"_a, "top_p"_a, "min_p"_a, "typical_p"_a, "number"_a,
        "isa"_a = nb::none());
  m.def("token_weights", &sampling::token_weights, "logits"_a.noconvert(), "changed"_a.noconvert(), "scores"_a.noconvert(),
        "mask"_a.none().noconvert(), "temperature"_a, "top_k"_a, "top_p"_a, "min_p"_a, "typical_p"_a,
        "isa"_a = nb::none());
  m.def("ranked", &sampling::ranked_and_weighed, "logits"_a.noconvert(), "count"_a, "isa"_a = nb::none());
  m.def("best_tokens", &sampling::best, "logits"_a.noconvert(), "count"_a);
}

}  // namespace hearth
