// Blocks of a lower Cholesky factor in f64, elements in a fixed order of operations; bind.cc puts them together.
#include "arithmetic.h"
#include "quantise/grid.h"

namespace hearth::HEARTH_ISA {
namespace {

typedef double Doubles __attribute__((vector_size(HEARTH_WIDTH * 4)));
typedef double DoublesInMemory __attribute__((vector_size(HEARTH_WIDTH * 4), aligned(8), may_alias));
constexpr int64_t kWide = HEARTH_WIDTH / 2;

Doubles load(const double* p) { return *reinterpret_cast<const DoublesInMemory*>(p); }
void store(double* p, Doubles v) { *reinterpret_cast<DoublesInMemory*>(p) = v; }

constexpr int64_t kStripe = 32;  // columns

// c[R][V] -= a[R][depth] * b[depth][V], the sum from zero in order; rows of b are kStripe apart.
template <int R, int V>
void take_product(const double* a, int64_t stride, int64_t depth, const double* b, double* c) {
  Doubles sum[R][V] = {};
  for (int64_t d = 0; d < depth; ++d)
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < V; ++v) sum[r][v] = sum[r][v] + load(b + d * kStripe + v * kWide) * a[r * stride + d];
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) store(c + r * stride + v * kWide, load(c + r * stride + v * kWide) - sum[r][v]);
}

double root(double x) { return __builtin_sqrt(x); }

}  // namespace

bool cholesky_diagonal(double* a, int64_t stride, int64_t first, int64_t count) {
  for (int64_t j = first; j < first + count; ++j) {
    double pivot = a[j * stride + j];
    for (int64_t t = first; t < j; ++t) pivot -= a[j * stride + t] * a[j * stride + t];
    if (!(pivot > 0.0)) return false;
    pivot = root(pivot);
    a[j * stride + j] = pivot;
    for (int64_t i = j + 1; i < first + count; ++i) {
      double x = a[i * stride + j];
      for (int64_t t = first; t < j; ++t) x -= a[i * stride + t] * a[j * stride + t];
      a[i * stride + j] = x / pivot;
    }
  }
  return true;
}

void cholesky_row(double* a, int64_t stride, int64_t first, int64_t count, int64_t row, double* column) {
  double* x = a + row * stride + first;
  for (int64_t j = 0; j < count; ++j) {
    const double* l = a + (first + j) * stride + first;
    double rest = x[j];
    for (int64_t t = 0; t < j; ++t) rest -= x[t] * l[t];
    x[j] = rest / l[j];
    column[j * stride + row] = x[j];
  }
}

void cholesky_rest(double* a, int64_t stride, int64_t first, int64_t count, int64_t k, int64_t stripe,
                   const double* column) {
  constexpr int R = 4, V = HEARTH_WIDTH == 16 ? 4 : 2;
  const int64_t columns = stripe + kStripe < k ? kStripe : align_up(k - stripe, 8);
  double packed[kBlock * kStripe];  // its rows in the matrix are far apart, and meet in the cache
  for (int64_t d = 0; d < count; ++d)
    for (int64_t j = 0; j < columns; j += kWide) store(packed + d * kStripe + j, load(column + d * stride + stripe + j));
  int64_t i = stripe;
  for (; i < k; i += R)
    for (int64_t j = 0; j < columns;) {
      const bool whole = j + V * kWide <= columns;
      double* c = a + i * stride + stripe + j;
      const double *l = a + i * stride + first, *b = packed + j;
      if (i + R <= k) {
        if (whole) take_product<R, V>(l, stride, count, b, c);
        else take_product<R, 1>(l, stride, count, b, c);
      } else {
        for (int64_t r = 0; r < k - i; ++r) {
          if (whole) take_product<1, V>(l + r * stride, stride, count, b, c + r * stride);
          else take_product<1, 1>(l + r * stride, stride, count, b, c + r * stride);
        }
      }
      j += whole ? V * kWide : kWide;
    }
}

}  // namespace hearth::HEARTH_ISA
