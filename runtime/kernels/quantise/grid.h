// The forms of weights as their searches see them (compiler/quantize/grid.py), and the tasks over them.
#pragma once

#include "kernel.h"

namespace hearth {

constexpr int64_t kCells = 512;  // half steps

struct Grid {
  const int8_t* values;  // s8[highest - lowest + 1][512]: the nearest level of a half step
  int lowest, highest;   // multipliers
  float reach, widest;   // the largest level of a multiplier of 1, and of all
  bool bf16;             // the scale is stored as bf16
  [[gnu::always_inline]] const int8_t* of(int multiplier) const { return values + (multiplier - lowest) * kCells; }
  [[gnu::always_inline]] bool grouped() const { return highest > lowest; }
};

// Rows of weights and what is known of their codes.
struct Coded {
  Grid grid;
  const float* weights;  // f32[rows, k]
  int64_t rows, k, group;
  int8_t* multipliers;  // s8[rows, groups]
  float* scale;         // f32[rows]
  int8_t* levels;       // s8[rows, k]
  [[gnu::always_inline]] int64_t groups() const { return (k + group - 1) / group; }
};

struct Search : Coded {
  const float* importance;  // f32[groups * wide], padding zero
  const float *factors, *clips;
  int64_t factor_count, clip_count;
  [[gnu::always_inline]] int64_t wide() const { return align_up(group, 16); }
  // Floats of one thread.
  [[gnu::always_inline]] int64_t scratch() const { return align_up(groups() * (wide() + 4), 16); }
};

constexpr int64_t kTile = 32;    // rows that read a matrix of K x K together
constexpr int64_t kBlock = 128;  // columns whose errors reach the others at once

struct Feedback : Coded {
  const int32_t* order;  // s32[k]: columns as they are coded
  const float* factor;   // f32[k, stride]: what the error of one column adds to each later one
  int64_t stride;        // K up to a multiple of 16
  [[gnu::always_inline]] int64_t scratch() const { return kTile * (stride + kBlock); }
};

struct Descent : Coded {
  const float* hessian;  // f32[k, stride]
  int64_t stride, block;  // columns fitted together: a group, or part of a channel without groups
  const float* inverse;   // f32[blocks, block, block] of the Hessian's blocks
  const float* factor;    // f32[blocks, block, block] and
  const float* pivots;    // f32[blocks, block]: H = (1 + factor) diag(pivots) (1 + factor)^T
  const float* factors;   // of multipliers to try, each with
  const int32_t* offsets;
  int64_t trials, sweeps;
  bool fed;  // the error of one column is fed to the next
  [[gnu::always_inline]] int64_t blocks() const { return (k + block - 1) / block; }
  [[gnu::always_inline]] int64_t scratch() const {
    return kTile * (stride * 4 + block + 16) + block * 16 * 6;
  }
};

#define HEARTH_QUANTISE(isa)                                                   \
  namespace isa {                                                              \
  void search_row(const Search& task, int64_t row, float* scratch);            \
  void nearest_row(const Coded& task, int64_t row, float* scratch);            \
  /* Rows first .. first + kTile, fewer at the end. */                         \
  void feedback_rows(const Feedback& task, int64_t first, float* scratch);     \
  void descent_rows(const Descent& task, int64_t first, float* scratch);       \
  /* Lower Cholesky factor of f64[k, stride] in place; `column` f64[128, stride]. */ \
  bool cholesky_diagonal(double* a, int64_t stride, int64_t first, int64_t count);   \
  void cholesky_row(double* a, int64_t stride, int64_t first, int64_t count, int64_t row, double* column);        \
  void cholesky_rest(double* a, int64_t stride, int64_t first, int64_t count, int64_t k, int64_t stripe,           \
                     const double* column);                                    \
  }
HEARTH_QUANTISE(portable)
HEARTH_QUANTISE(avx2)
HEARTH_QUANTISE(avx512vnni)
#undef HEARTH_QUANTISE

}  // namespace hearth
