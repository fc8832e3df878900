// A program bound to kernels, memory and threads: the entries of one archive, run for any number of states.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "contracts.h"
#include "executor/pages.h"
#include "executor/pool.h"
#include "table.h"

namespace hearth {

// Mirrors schemas/program.py.
enum Region : int { kWeights, kArena, kKvRegion, kIo };
constexpr int64_t kRowsT = -1, kRowsR = -2;

struct OperandPlace {
  int region;
  int64_t offset, stride;
};

struct Sizes {
  int64_t arena, io, kv;
};

struct EntryShape {
  int64_t max_tokens, max_logits, tokens_offset, logits_offset, vocab;
};

// Bad arguments throw std::invalid_argument, a call out of order std::logic_error.
class Engine {
 public:
  Engine(std::span<const std::byte> weights, Sizes sizes, int threads, Isa isa);

  int add_entry(const EntryShape& shape);
  void add_command(int entry, int opcode, int64_t rows, std::span<const std::optional<OperandPlace>> operands,
                   std::span<const int64_t> ints, std::span<const float> floats);
  void finish();

  // In a forked child: starts the threads anew. Call before run(), from one thread.
  void revive();
  // logits: f32[rows][vocab]. One run at a time; others wait.
  void run(Pages& kv, int entry, std::span<const int32_t> tokens, int64_t position, float* logits, int64_t rows);

  int threads() const { return pool_.threads(); }
  Isa isa() const { return isa_; }
  int64_t vocab(int entry) const { return at(entry).shape.vocab; }
  std::vector<std::string> kernel_names(int entry) const;

 private:
  struct Bound {
    Command command{};
    const Kernel* kernel = nullptr;
    int64_t rows = 0;
    bool x_is_q8 = false;
    std::optional<OperandPlace> places[kMaxOperands];
  };
  struct Entry {
    EntryShape shape;
    std::vector<Bound> commands;
    int64_t context = INT64_MAX;       // positions that every cache and table of the entry holds
    int64_t token_limit = INT64_MAX;   // rows of the smallest embedding table
    int64_t fixed_rows = 0;            // the largest row count that does not depend on the run
  };
  struct Job;

  Entry& at(int entry);
  const Entry& at(int entry) const { return const_cast<Engine*>(this)->at(entry); }
  int64_t region_nbytes(int region) const;
  std::byte* region_data(int region) const;
  int64_t most_rows(const Entry& entry, int64_t rows) const;
  bool written_as_q8(const Entry& entry, const OperandPlace& place) const;
  void check_operand(const Entry& entry, const Contract& contract, const Bound& bound, int operand) const;
  void note_limits(Entry& entry, const Bound& bound) const;
  void check_run(const Entry& entry, const Pages& kv, std::span<const int32_t> tokens, int64_t position,
                 int64_t rows) const;
  static void work(void* job, int thread);

  const std::span<const std::byte> weights_;
  const Sizes sizes_;
  const Isa isa_;
  Pool pool_;
  std::mutex running_;
  std::vector<Entry> entries_;
  std::optional<Pages> arena_, io_, scratch_;
  size_t scratch_stride_ = 0;
};

}  // namespace hearth
