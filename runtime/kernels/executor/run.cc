// A run: its arguments checked, inputs copied in, every thread through the list of commands, outputs copied out.
#include <algorithm>
#include <cstring>
#include <new>
#include <stdexcept>
#include <tuple>

#include "executor/engine.h"
#include "executor/refuse.h"

namespace hearth {
namespace {

// IEEE arithmetic as docs/arithmetic.md wants it, whatever another library set in this thread (flush to zero).
class StandardFloats {
#if defined(__x86_64__)
 public:
  StandardFloats() : before_(__builtin_ia32_stmxcsr()) { __builtin_ia32_ldmxcsr(0x1f80); }
  ~StandardFloats() { __builtin_ia32_ldmxcsr(before_); }

 private:
  unsigned before_;
#endif
};

bool written_in_place(const PortData& output) { return reinterpret_cast<uintptr_t>(output.data) % 4 == 0; }

}  // namespace

void Engine::revive() {
  if (pool_.revive()) new (&running_) std::mutex;  // its holder may not exist here
}

void Engine::check_segment(const Entry& entry, const Segment& segment) const {
  const auto& [kv, tokens, position, rows, adapter, scale] = segment;
  if (!scratch_) throw std::logic_error("finish() has not been called");
  if (int64_t(kv->nbytes()) < sizes_.kv)
    refuse("the state has " + number(kv->nbytes()) + " bytes, the program needs " + number(sizes_.kv));
  if (tokens < 1 || tokens > entry.shape.max_tokens)
    refuse(number(tokens) + " tokens, expected 1.." + number(entry.shape.max_tokens));
  if (tokens < entry.fixed_rows) refuse(number(tokens) + " tokens, the entry takes " + number(entry.fixed_rows));
  if (position < 0 || position > entry.context - tokens)
    refuse("position " + number(position) + " and " + number(tokens) + " tokens, the context holds " +
           number(entry.context));
  if (rows < 0 || rows > tokens) refuse(number(rows) + " rows of " + number(tokens) + " tokens");
}

// The arrays of a run have the shapes of their ports, of each sequence where those have a row count of their own; the
// result is R, which an array tells where `last` is -1.
int64_t Engine::check_arrays(const Entry& entry, int64_t sequences, int64_t tokens, int64_t last,
                             std::span<const PortData> inputs, std::span<const PortData> outputs) const {
  const EntryShape& shape = entry.shape;
  if (inputs.size() != shape.inputs.size() || outputs.size() != shape.outputs.size())
    refuse(number(inputs.size()) + " inputs and " + number(outputs.size()) + " outputs, the entry has " +
           number(shape.inputs.size()) + " and " + number(shape.outputs.size()));
  const auto check = [&](const char* what, size_t i, const Port& port, const PortData& given) {
    const std::string name = std::string(what) + " " + number(i);
    if (given.columns != port.columns)
      refuse(name + " has " + number(given.columns) + " columns, expected " + number(port.columns));
    if (port.rows == kRowsR && last < 0 && given.rows <= std::min(shape.max_logits, tokens)) last = given.rows;
    const int64_t rows = port.rows == kRowsT ? tokens : port.rows == kRowsR ? last : port.rows * sequences;
    if (rows < 0)
      refuse(name + " has " + number(given.rows) + " rows, expected at most " +
             number(std::min(shape.max_logits, tokens)));
    if (given.rows != rows) refuse(name + " has " + number(given.rows) + " rows, expected " + number(rows));
  };
  for (size_t i = 0; i < inputs.size(); ++i) check("input", i, shape.inputs[i], inputs[i]);
  for (size_t i = 0; i < outputs.size(); ++i) check("output", i, shape.outputs[i], outputs[i]);
  return last < 0 ? std::min(shape.max_logits, tokens) : last;
}

struct Engine::Job {
  Engine& engine;
  const Entry& entry;
  std::span<const Segment> segments;
  int64_t tokens, rows;
  std::span<const PortData> outputs;
  bool adapted = std::ranges::any_of(segments, [](const Segment& each) { return each.adapter; });
};

void Engine::work(void* context, int thread) {
  const StandardFloats floats;
  const Job& job = *static_cast<Job*>(context);
  Engine& engine = job.engine;
  Call call{0, job.tokens, 0, thread, engine.threads(), engine.scratch_->data() + thread * engine.scratch_stride_};
  Stamp* const stamps = job.entry.profile.of(thread);
  const auto& commands = job.entry.commands;
  const bool together = job.segments.size() > 1;
  Prefetch prefetch(thread, engine.threads());
  int turn = 0;
  bool first = true;
  for (const Bound& bound : std::span(commands).first(together ? job.entry.shared : commands.size())) {
    call.rows = bound.rows == kRowsT ? job.tokens : bound.rows == kRowsR ? job.rows : bound.rows;
    if (call.rows == 0) continue;
    if (!first) engine.pool_.barrier(thread, prefetch);
    first = false;
    if (job.adapted) engine.adapt(bound, job, call);
    const Noting noting(stamps ? stamps + (&bound - commands.data()) : nullptr);
    if (bound.by_segment) engine.run_all(bound, job, call);
    else if (bound.stream.shared(call.rows, call.threads)) engine.run_shared(bound, call, turn++);
    else bound.kernel->run(bound.command, call);
    if (call.rows <= Stream::kFewRows && bound.next_stream < commands.size()) prefetch.aim(commands[bound.next_stream].stream);
  }
  call.deltas = nullptr;
  if (together && job.entry.shared < commands.size()) engine.run_last(job, call);
}

// What adapters add to the rows of a linear: A x of each, and where B is. All threads come to the same.
void Engine::adapt(const Bound& bound, const Job& job, Call& call) {
  call.deltas = nullptr;
  const auto linear_of = [&](const Segment& segment) {
    return segment.adapter ? segment.adapter->of(bound.site) : nullptr;
  };
  if (std::ranges::none_of(job.segments, linear_of)) return;
  const bool few = call.rows <= AdapterMemory::kFewRows;
  const Share share(call.rows, call);
  const int64_t begin = few ? 0 : share.begin, end = few ? call.rows : share.end;
  const AdapterMemory& memory = *adapting_;
  float* const u = few ? memory.own(call.thread) : memory.shared();
  Delta* const deltas = memory.deltas(call.thread);
  int64_t row = 0;
  for (const Segment& segment : job.segments) {
    const AdapterLinear* const linear = linear_of(segment);
    const int64_t rows = bound.rows == kRowsT ? segment.tokens : bound.rows == kRowsR ? segment.rows : bound.rows;
    const int64_t first = std::max(row, begin), last = std::min(row + rows, end), stride = memory.u_stride();
    for (int64_t r = row; r < row + rows; ++r)
      deltas[r] = {linear ? linear->blocks.data() : nullptr, u + r * stride, linear ? segment.adapter->form() : 0};
    if (linear && first < last) {
      const auto* x = static_cast<const std::byte*>(bound.command.operand[0]) + first * bound.command.stride[0];
      memory.multiply(*linear, {x, bound.command.stride[0], last - first, u + first * stride, stride, segment.scale},
                      call.thread);
    }
    row += rows;
  }
  if (!few) pool_.barrier(call.thread);
  call.deltas = deltas;
}

// A linear of few rows, in pieces that go to whoever is free.
void Engine::run_shared(const Bound& bound, const Call& call, int turn) {
  Call part = call;
  handout_.each(turn, call.thread, bound.stream.pieces(call.threads), [&](const Piece& piece) {
    part.thread = piece.thread, part.threads = piece.threads;
    bound.kernel->run(bound.command, part);
    part.again = true;
  });
}

// A command whose rows depend on their place in a sequence: this thread's share of every segment, one after the
// other without a barrier, since segments write rows and states of their own. A single row has little work to share,
// so in each segment another thread comes first.
void Engine::run_all(const Bound& bound, const Job& job, Call call) const {
  const int64_t count = int64_t(job.segments.size()), apart = std::max<int64_t>(call.threads / count, 1);
  int64_t token = 0, row = 0;
  for (const Segment& segment : job.segments) {
    run_one(bound, segment, token, row, call);
    call.thread = int((call.thread + apart) % call.threads);
    token += segment.tokens;
    row += segment.rows;
  }
}

// A command for the rows of one segment, whose first are these of T and R.
void Engine::run_one(const Bound& bound, const Segment& segment, int64_t token, int64_t row, Call call) const {
  call.rows = bound.rows == kRowsT ? segment.tokens : bound.rows == kRowsR ? segment.rows : bound.rows;
  call.tokens = segment.tokens;
  call.position = segment.position;
  if (call.rows == 0) return;
  Command command = bound.command;
  for (int i = 0; i < kMaxOperands; ++i) {
    if (!bound.places[i] || bound.bases[i] == Base::kSame) continue;
    auto& at = command.operand[i];
    if (bound.bases[i] == Base::kState) at = segment.kv->data() + bound.places[i]->offset;
    else at = static_cast<std::byte*>(at) + (bound.bases[i] == Base::kToken ? token : row) * command.stride[i];
  }
  bound.kernel->run(command, call);
}

// The last commands, those of one row, for one sequence after the other; each leaves a row of the outputs.
void Engine::run_last(const Job& job, const Call& call) {
  const auto& [commands, shape] = std::tie(job.entry.commands, job.entry.shape);
  int64_t token = 0;
  for (size_t index = 0; index < job.segments.size(); ++index) {
    for (const Bound& bound : std::span(commands).subspan(job.entry.shared)) {
      pool_.barrier(call.thread);
      run_one(bound, job.segments[index], token, 0, call);
    }
    token += job.segments[index].tokens;
    pool_.barrier(call.thread);
    if (call.thread != 0) continue;
    for (size_t i = 0; i < job.outputs.size(); ++i) {
      if (shape.outputs[i].rows < 0) continue;
      const size_t nbytes = size_t(shape.outputs[i].columns) * 4;
      std::memcpy(static_cast<std::byte*>(job.outputs[i].data) + index * nbytes, io_->data() + shape.outputs[i].offset,
                  nbytes);
    }
  }
}

void Engine::run(Pages& kv, int entry_number, int64_t tokens, int64_t position, std::span<const PortData> inputs,
                 std::span<const PortData> outputs, const Adapter* adapter, float scale) {
  Entry& entry = at(entry_number);
  Segment segment{&kv, tokens, position, 0, adapter, scale};
  check_segment(entry, segment);
  segment.rows = check_arrays(entry, 1, tokens, -1, inputs, outputs);
  compute(entry, {&segment, 1}, tokens, segment.rows, inputs, outputs);
}

void Engine::run_segments(int entry_number, std::span<const Segment> segments, std::span<const PortData> inputs,
                          std::span<const PortData> outputs) {
  Entry& entry = at(entry_number);
  require(!segments.empty(), "there are no segments");
  int64_t tokens = 0, rows = 0;
  for (size_t i = 0; i < segments.size(); ++i) {
    check_segment(entry, segments[i]);
    for (size_t j = 0; j < i; ++j) require(segments[i].kv != segments[j].kv, "two segments have the same state");
    tokens += segments[i].tokens;
    rows += segments[i].rows;
  }
  require(segments.size() == 1 || !entry.one_sequence, "the entry takes one sequence");
  const auto& [most_tokens, most_rows, in, out] = entry.shape;
  if (tokens > most_tokens) refuse(number(tokens) + " tokens, expected at most " + number(most_tokens));
  if (rows > most_rows) refuse(number(rows) + " rows, expected at most " + number(most_rows));
  check_arrays(entry, int64_t(segments.size()), tokens, rows, inputs, outputs);
  compute(entry, segments, tokens, rows, inputs, outputs);
}

void Engine::compute(Entry& entry, std::span<const Segment> segments, int64_t tokens, int64_t rows,
                     std::span<const PortData> inputs, std::span<const PortData> outputs) {
  filler_.stop();
  const std::lock_guard lock(running_);
  entry.profile.clear();
  for (size_t i = 0; i < inputs.size(); ++i) read_input(entry, i, inputs[i]);
  for (size_t i = 0; i < outputs.size(); ++i)
    if (const auto [command, operand] = entry.writers[i]; command >= 0)
      entry.commands[command].command.operand[operand] =
          written_in_place(outputs[i]) ? outputs[i].data : io_->data() + entry.shape.outputs[i].offset;
  Job job{*this, entry, segments, tokens, rows, outputs};
  handout_.reset();
  pool_.run(&Engine::work, &job, entry.placement, entry.notes.data());
  for (size_t i = 0; i < outputs.size(); ++i)
    if (outputs[i].rows && !(entry.writers[i].command >= 0 && written_in_place(outputs[i])) &&
        (segments.size() == 1 || entry.shape.outputs[i].rows < 0))
      std::memcpy(outputs[i].data, io_->data() + entry.shape.outputs[i].offset,
                  size_t(outputs[i].rows * outputs[i].columns) * 4);
}

// Copies first and checks the copy: the caller's array may change meanwhile.
void Engine::read_input(const Entry& entry, size_t input, const PortData& given) const {
  const Port& port = entry.shape.inputs[input];
  std::byte* to = io_->data() + port.offset;
  if (given.rows) std::memcpy(to, given.data, size_t(given.rows * std::max<int64_t>(given.columns, 1)) * 4);
  if (port.columns) return;
  const auto* ids = reinterpret_cast<const int32_t*>(to);
  for (int64_t row = 0; row < given.rows; ++row)
    if (ids[row] < 0 || ids[row] >= entry.id_limits[input])
      refuse("token id " + number(ids[row]) + " is not in [0, " + number(entry.id_limits[input]) + ")");
}

}  // namespace hearth
