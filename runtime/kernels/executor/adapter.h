// Low-rank additions to linears, y + B (A x): bound to an engine's weights by where those lie, used row by row.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "executor/pages.h"
#include "table.h"

namespace hearth {

constexpr int64_t kMostRanks = 1 << 14;

// What an adapter has for one packed weight, as offsets into its data (docs/lora.md). `layout` is that of A [ranks, K];
// `bias`, of A x, is -1 where there is none; at `b` lie i32[blocks][2] (first, count), then the blocks' values.
struct AdapterPart {
  int64_t weight;  // where the packed weight begins in the weights region
  int64_t ranks, layout, a, bias, b;
};

// A linear command as adapters see it: the weight, and how its rows come.
struct Site {
  int64_t weight, k, blocks;
  bool x_is_q8;
  bool operator==(const Site&) const = default;
};

// The part of an adapter that belongs to one site.
struct AdapterLinear {
  Command product{};               // A x, but for where x and u are
  const Kernel* kernel = nullptr;  // null: the adapter leaves the site alone
  bool decodes = false;            // x is q8, and A floats
  std::vector<DeltaBlock> blocks;
};

class Adapter {
 public:
  // Throws std::invalid_argument for parts that reach outside the data or name no linear.
  Adapter(std::span<const std::byte> data, int form, std::span<const AdapterPart> parts, std::span<const Site> sites,
          int64_t max_rows, Isa isa);

  // Null: nothing is added there.
  const AdapterLinear* of(int site) const {
    return site >= 0 && linears_[size_t(site)].kernel ? &linears_[size_t(site)] : nullptr;
  }
  int form() const { return form_; }

  // What a run with it needs.
  int64_t ranks = 0, columns = 0;  // of u; of x where it is decoded
  size_t scratch = 0;

 private:
  void bind(AdapterLinear& linear, const Site& site, const AdapterPart& part);
  void read_blocks(AdapterLinear& linear, const Site& site, const AdapterPart& part) const;
  const std::byte* at(int64_t offset, int64_t nbytes, int64_t alignment) const;

  const std::span<const std::byte> data_;
  const int form_;
  const int64_t max_rows_;
  const Isa isa_;
  std::vector<AdapterLinear> linears_;  // by site
};

// Rows of a linear, and where their A x goes.
struct AdapterRows {
  const std::byte* x;
  int64_t x_stride, rows;
  float* u;
  int64_t u_stride;
  float scale;
};

// A thread's memory in runs with adapters. Up to kFewRows rows each thread computes every A x itself, which costs less than
// waiting for the others; more are shared.
class AdapterMemory {
 public:
  static constexpr int64_t kFewRows = 8;

  AdapterMemory(int64_t max_rows, int threads) : max_rows_(max_rows), threads_(threads) {}
  // Makes room for runs with this adapter. Not while one is in progress.
  void fit(const Adapter& adapter);

  int64_t u_stride() const { return ranks_; }
  float* shared() const { return reinterpret_cast<float*>(pages_->data()); }
  float* own(int thread) const { return reinterpret_cast<float*>(of(thread)); }
  Delta* deltas(int thread) const { return reinterpret_cast<Delta*>(of(thread) + deltas_at()); }
  // u = (A x) * scale, each product as a linear of these operands makes it.
  void multiply(const AdapterLinear& linear, const AdapterRows& rows, int thread) const;

 private:
  int64_t deltas_at() const { return kFewRows * ranks_ * 4; }
  int64_t x_at() const { return align_up(deltas_at() + max_rows_ * int64_t(sizeof(Delta)), 64); }
  int64_t scratch_at() const { return x_at() + kFewRows * columns_ * 4; }
  int64_t stride() const { return align_up(scratch_at() + int64_t(scratch_), 4096); }
  int64_t shared_nbytes() const { return align_up(max_rows_ * ranks_ * 4, 4096); }
  std::byte* of(int thread) const { return pages_->data() + shared_nbytes() + thread * stride(); }

  const int64_t max_rows_;
  const int threads_;
  int64_t ranks_ = 0, columns_ = 0;
  size_t scratch_ = 0;
  std::optional<Pages> pages_;
};

}  // namespace hearth
