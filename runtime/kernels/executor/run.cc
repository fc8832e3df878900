// A run: its arguments checked, inputs copied in, every thread through the list of commands, outputs copied out.
#include <algorithm>
#include <cstring>
#include <new>
#include <stdexcept>

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

}  // namespace

void Engine::revive() {
  if (pool_.revive()) new (&running_) std::mutex;  // its holder may not exist here
}

void Engine::check_run(const Entry& entry, const Pages& kv, int64_t tokens, int64_t position) const {
  if (!scratch_) throw std::logic_error("finish() has not been called");
  if (int64_t(kv.nbytes()) < sizes_.kv)
    refuse("the state has " + number(kv.nbytes()) + " bytes, the program needs " + number(sizes_.kv));
  if (tokens < 1 || tokens > entry.shape.max_tokens)
    refuse(number(tokens) + " tokens, expected 1.." + number(entry.shape.max_tokens));
  if (tokens < entry.fixed_rows) refuse(number(tokens) + " tokens, the entry takes " + number(entry.fixed_rows));
  if (position < 0 || position > entry.context - tokens)
    refuse("position " + number(position) + " and " + number(tokens) + " tokens, the context holds " +
           number(entry.context));
}

// The arrays of a run have the shapes of their ports; the result is R.
int64_t Engine::check_arrays(const Entry& entry, int64_t tokens, std::span<const PortData> inputs,
                             std::span<const PortData> outputs) const {
  const EntryShape& shape = entry.shape;
  if (inputs.size() != shape.inputs.size() || outputs.size() != shape.outputs.size())
    refuse(number(inputs.size()) + " inputs and " + number(outputs.size()) + " outputs, the entry has " +
           number(shape.inputs.size()) + " and " + number(shape.outputs.size()));
  int64_t last = -1;  // R, once an array tells it
  const auto check = [&](const char* what, size_t i, const Port& port, const PortData& given) {
    const std::string name = std::string(what) + " " + number(i);
    if (given.columns != port.columns)
      refuse(name + " has " + number(given.columns) + " columns, expected " + number(port.columns));
    if (port.rows == kRowsR && last < 0 && given.rows <= std::min(shape.max_logits, tokens)) last = given.rows;
    const int64_t rows = port.rows == kRowsT ? tokens : port.rows == kRowsR ? last : port.rows;
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
  Entry& entry;
  int64_t tokens, rows, position;
};

void Engine::work(void* context, int thread) {
  const StandardFloats floats;
  const Job& job = *static_cast<Job*>(context);
  Engine& engine = job.engine;
  Call call{0, job.tokens, job.position, thread, engine.threads(),
            engine.scratch_->data() + thread * engine.scratch_stride_};
  bool first = true;
  for (const Bound& bound : job.entry.commands) {
    call.rows = bound.rows == kRowsT ? job.tokens : bound.rows == kRowsR ? job.rows : bound.rows;
    if (call.rows == 0) continue;
    if (!first) engine.pool_.barrier(thread);
    first = false;
    bound.kernel->run(bound.command, call);
  }
}

void Engine::run(Pages& kv, int entry_number, int64_t tokens, int64_t position, std::span<const PortData> inputs,
                 std::span<const PortData> outputs) {
  Entry& entry = at(entry_number);
  check_run(entry, kv, tokens, position);
  const int64_t rows = check_arrays(entry, tokens, inputs, outputs);
  const std::lock_guard lock(running_);
  for (Bound& bound : entry.commands)
    for (int i = 0; i < kMaxOperands; ++i)
      if (bound.places[i] && bound.places[i]->region == kKvRegion)
        bound.command.operand[i] = kv.data() + bound.places[i]->offset;
  for (size_t i = 0; i < inputs.size(); ++i) read_input(entry, i, inputs[i]);
  Job job{*this, entry, tokens, rows, position};
  pool_.run(&Engine::work, &job);
  for (size_t i = 0; i < outputs.size(); ++i)
    if (outputs[i].rows)
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
