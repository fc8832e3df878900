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
#include "executor/adapter.h"
#include "executor/filler.h"
#include "executor/pages.h"
#include "executor/pool.h"
#include "executor/stream.h"
#include "executor/profile.h"
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

// A tensor of the io region that a run copies in or out: f32[rows][columns], or ids i32[rows] where columns is 0.
struct Port {
  int64_t offset, columns, rows;  // rows: a count, kRowsT or kRowsR
};

// The caller's array for a port.
struct PortData {
  void* data = nullptr;
  int64_t rows = 0, columns = 0;
};

// Rows of a run that belong to one sequence: `tokens` of the T, at `position` of its state; `rows` of the R, for the
// last of them. Its linears add what the adapter has for them, times `scale`.
struct Segment {
  Pages* kv;
  int64_t tokens, position, rows;
  const Adapter* adapter = nullptr;
  float scale = 1.0f;
};

struct EntryShape {
  int64_t max_tokens, max_logits;
  std::vector<Port> inputs, outputs;
};

constexpr size_t kMaxPorts = 32;

// Whether two ranges of bytes of one region have a byte in common.
constexpr bool meet(int64_t a, int64_t a_nbytes, int64_t b, int64_t b_nbytes) {
  return a < b + b_nbytes && b < a + a_nbytes;
}

// Bad arguments throw std::invalid_argument, a call out of order std::logic_error.
class Engine {
 public:
  Engine(std::span<const std::byte> weights, Sizes sizes, int threads, Isa isa);

  int add_entry(const EntryShape& shape);
  void add_command(int entry, int opcode, int64_t rows, std::span<const std::optional<OperandPlace>> operands,
                   std::span<const int64_t> ints, std::span<const float> floats);
  void finish();

  // An adapter of these programs' linears, for runs of this engine alone. Its data must outlive it. After finish().
  Adapter adapter(std::span<const std::byte> data, int form, std::span<const AdapterPart> parts);

  // In a forked child: starts the threads anew. Call before run(), from one thread.
  void revive();
  // Reads every input, computes T = `tokens` rows at `position`, fills every output; R is the rows of the outputs
  // that have R of them. One run at a time; others wait.
  void run(Pages& kv, int entry, int64_t tokens, int64_t position, std::span<const PortData> inputs,
           std::span<const PortData> outputs, const Adapter* adapter = nullptr, float scale = 1.0f);
  // The same of several sequences: T and R are the sums over the segments, whose rows follow each other.
  void run_segments(int entry, std::span<const Segment> segments, std::span<const PortData> inputs,
                    std::span<const PortData> outputs);

  // Where the threads stay in the runs of an entry: cores for each thread, or none at all for no wish.
  void place(int entry, Placement placement);
  Placement placement(int entry);
  // Of each thread, as its runs found it.
  std::vector<Whereabouts> whereabouts(int entry);

  // Until the first run, maps in the background what is cached of weights that are a file's.
  void map_cached() { filler_.start(weights_); }

  int threads() const { return pool_.threads(); }
  Isa isa() const { return isa_; }
  // Whether runs of the entry take one segment alone.
  bool one_sequence(int entry) const { return at(entry).one_sequence; }
  std::vector<std::string> kernel_names(int entry) const;

  // From now on each run notes when its commands began and ended. Once, after finish().
  void start_profile();
  // Of the last run of an entry: stamps[threads][commands], zeros for a command without rows. Waits for a run in
  // progress. Without start_profile(): none.
  std::vector<Stamp> stamps(int entry);

 private:
  // What a segment's operand begins at: its first row in the command, its first row in the run, its state.
  enum class Base { kSame, kRow, kToken, kState };
  struct Bound {
    Command command{};
    const Kernel* kernel = nullptr;
    int64_t rows = 0;
    bool x_is_q8 = false, by_segment = false;
    std::optional<OperandPlace> places[kMaxOperands];
    Base bases[kMaxOperands]{};  // read where by_segment
    int site = -1;               // a linear's, in sites_
    Stream stream;
    size_t next_stream = 0;  // the first command after this one that has a stream; their count: none
  };
  struct Writer {
    int64_t command = -1;
    int operand = 0;
  };
  struct Entry {
    EntryShape shape;
    std::vector<Bound> commands;
    std::vector<Writer> writers;       // of each output: the command that may write the caller's array itself
    int64_t context = INT64_MAX;       // positions that every cache and table of the entry holds
    std::vector<int64_t> id_limits;    // of each input: rows of the smallest table that its ids choose from
    int64_t fixed_rows = 0;            // the largest row count that does not depend on the run
    size_t shared = 0;                 // commands before the first with such a count: for rows of all sequences
    bool one_sequence = true;          // the others cannot be run for each sequence in turn
    Placement placement;
    std::vector<Whereabouts> notes;    // of each thread
    Profile profile;
  };
  struct Job;

  Entry& at(int entry);
  const Entry& at(int entry) const { return const_cast<Engine*>(this)->at(entry); }
  int64_t region_nbytes(int region) const;
  std::byte* region_data(int region) const;
  int64_t most_rows(const Entry& entry, int64_t rows) const;
  int64_t ids_port(const Entry& entry, const Bound& bound, const OperandPlace& place) const;
  bool written_as_q8(const Entry& entry, const OperandPlace& place) const;
  void check_operand(const Entry& entry, const Contract& contract, const Bound& bound, int operand) const;
  void note_limits(Entry& entry, const Bound& bound) const;
  int64_t port_nbytes(const Entry& entry, const Port& port) const;
  void check_port(const Entry& entry, const Port& port) const;
  void check_segment(const Entry& entry, const Segment& segment) const;
  Writer find_writer(const Entry& entry, size_t output) const;
  void find_shared(Entry& entry) const;
  bool reads_its_own(const Entry& entry, size_t command) const;
  int64_t check_arrays(const Entry& entry, int64_t sequences, int64_t tokens, int64_t rows,
                       std::span<const PortData> inputs, std::span<const PortData> outputs) const;
  void compute(Entry& entry, std::span<const Segment> segments, int64_t tokens, int64_t rows,
               std::span<const PortData> inputs, std::span<const PortData> outputs);
  int site_of(const Bound& bound);
  void adapt(const Bound& bound, const Job& job, Call& call);
  void run_all(const Bound& bound, const Job& job, Call call) const;
  void run_one(const Bound& bound, const Segment& segment, int64_t token, int64_t row, Call call) const;
  void run_last(const Job& job, const Call& call);
  void read_input(const Entry& entry, size_t input, const PortData& given) const;
  void run_shared(const Bound& bound, const Call& call, int turn);
  static void work(void* job, int thread);

  const std::span<const std::byte> weights_;
  const Sizes sizes_;
  const Isa isa_;
  Filler filler_;
  Pool pool_;
  Handout handout_;
  std::mutex running_;
  std::vector<Entry> entries_;
  std::vector<Site> sites_;
  std::optional<AdapterMemory> adapting_;
  std::optional<Pages> arena_, io_, scratch_;
  size_t scratch_stride_ = 0;
};

}  // namespace hearth
