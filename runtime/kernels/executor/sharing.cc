// What runs once for all sequences of a run, and what writes the caller's arrays itself: found when a program is bound.
#include <algorithm>
#include <tuple>

#include "executor/engine.h"

namespace hearth {

// A command that alone has to do with the bytes of an output, and writes all of them, can write them where the caller
// wants them: logits are large.
Engine::Writer Engine::find_writer(const Entry& entry, size_t output) const {
  const Port& port = entry.shape.outputs[output];
  const int64_t nbytes = port_nbytes(entry, port), row = port.columns * 4;
  Writer found;
  for (size_t other = 0; other < entry.shape.outputs.size(); ++other) {
    const Port& beside = entry.shape.outputs[other];
    if (other != output && meet(port.offset, nbytes, beside.offset, port_nbytes(entry, beside))) return {};
  }
  for (size_t c = 0; c < entry.commands.size(); ++c) {
    const Bound& bound = entry.commands[c];
    const Contract& contract = *find_contract(bound.command.opcode);
    for (size_t i = 0; i < contract.operands.size(); ++i) {
      const auto& place = bound.places[i];
      if (!place || place->region != kIo) continue;
      const auto extent = [&](int64_t rows, int64_t tokens) {
        return operand_extent(contract, bound.command, int(i), rows, tokens, bound.x_is_q8).nbytes;
      };
      if (!meet(port.offset, nbytes, place->offset, extent(most_rows(entry, bound.rows), entry.shape.max_tokens)))
        continue;
      const bool whole = contract.operands[i].role == kOut && place->offset == port.offset && bound.rows == port.rows &&
                         place->stride == row && extent(1, 1) == row;
      const bool each_in_turn = c >= entry.shared && !entry.one_sequence;  // over the same memory
      if (!whole || bound.by_segment || each_in_turn || found.command >= 0) return {};
      found = {int64_t(c), int(i)};
    }
  }
  return found;
}

// Commands of a single row at the end make a row of each sequence, as a pooled text is one. They can be run for one
// sequence after the other, over the same memory, where none of them reads what another sequence's turn has written.
void Engine::find_shared(Entry& entry) const {
  const auto fixed = [](const auto& each) { return each.rows >= 0; };
  const auto one_row = [](const auto& each) { return each.rows < 0 || each.rows == 1; };
  const auto& [commands, shape] = std::tie(entry.commands, entry.shape);
  entry.shared = size_t(std::ranges::find_if(commands, fixed) - commands.begin());
  const auto last = std::span(commands).subspan(entry.shared);
  entry.one_sequence = std::ranges::any_of(shape.inputs, fixed) || !std::ranges::all_of(shape.outputs, one_row) ||
                       last.empty() != std::ranges::none_of(shape.outputs, fixed) ||
                       !std::ranges::all_of(last, [](const Bound& bound) { return bound.rows == 1; });
  for (size_t i = entry.shared; i < commands.size() && !entry.one_sequence; ++i)
    entry.one_sequence = !reads_its_own(entry, i);
}

// Whether a command of the last ones reads rows of its own sequence alone: those that an earlier one of them wrote, or
// of the run's those of its segment, which none of them overwrites.
bool Engine::reads_its_own(const Entry& entry, size_t command) const {
  const auto extent = [&](const Bound& bound, size_t i) {
    return operand_extent(*find_contract(bound.command.opcode), bound.command, int(i), bound.rows,
                          entry.shape.max_tokens, bound.x_is_q8)
        .nbytes;
  };
  const Bound& bound = entry.commands[command];
  const auto& operands = find_contract(bound.command.opcode)->operands;
  for (size_t i = 0; i < operands.size(); ++i) {
    const auto& place = bound.places[i];
    if (operands[i].role != kIn || !place || place->region == kWeights) continue;
    bool written = false, overwritten = false;
    for (size_t c = entry.shared; c < entry.commands.size(); ++c) {
      const Bound& other = entry.commands[c];
      const auto& specs = find_contract(other.command.opcode)->operands;
      for (size_t o = 0; o < specs.size(); ++o) {
        const auto& out = other.places[o];
        if (specs[o].role != kOut || out->region != place->region) continue;
        const int64_t nbytes = extent(other, o), needed = extent(bound, i);
        overwritten |= meet(place->offset, needed, out->offset, nbytes);
        written |= c < command && out->offset <= place->offset && place->offset + needed <= out->offset + nbytes;
      }
    }
    if (operands[i].all_rows ? overwritten : !written) return false;
  }
  return true;
}

}  // namespace hearth
