// Binding: every operand is checked against its region, so that no program can make a kernel leave them.
#include "executor/engine.h"

#include <algorithm>
#include <stdexcept>

#include "attributes.h"
#include "executor/refuse.h"

namespace hearth {
namespace {

constexpr int64_t kMostBytes = int64_t{1} << 46, kMostRows = int64_t{1} << 20, kMostStride = int64_t{1} << 31;

bool has_rows(Kind kind) { return kind == kF32 || kind == kQ8; }

}  // namespace

Engine::Engine(std::span<const std::byte> weights, Sizes sizes, int threads, Isa isa)
    : weights_(weights), sizes_(sizes), isa_(isa), pool_((require(threads >= 1 && threads <= 1024,
                                                                  "threads is not in 1..1024"), threads)),
      handout_(threads) {
  require(reinterpret_cast<uintptr_t>(weights.data()) % 64 == 0, "the weights do not start on a 64-byte boundary");
  for (int64_t nbytes : {sizes.arena, sizes.io, sizes.kv})
    require(nbytes >= 0 && nbytes <= kMostBytes, "a region's size is out of range");
}

Engine::Entry& Engine::at(int entry) {
  require(entry >= 0 && size_t(entry) < entries_.size(), "no such entry");
  return entries_[entry];
}

int64_t Engine::region_nbytes(int region) const {
  switch (region) {
    case kWeights: return int64_t(weights_.size());
    case kArena: return sizes_.arena;
    case kKvRegion: return sizes_.kv;
    default: return sizes_.io;
  }
}

int Engine::add_entry(const EntryShape& s) {
  if (io_) throw std::logic_error("the engine is finished");
  require(s.max_tokens >= 1 && s.max_tokens <= kMostRows, "max_tokens is out of range");
  require(s.max_logits >= 0 && s.max_logits <= s.max_tokens, "max_logits is above max_tokens");
  require(s.inputs.size() <= kMaxPorts && s.outputs.size() <= kMaxPorts, "too many ports");
  Entry entry;
  entry.shape = s;
  entry.id_limits.assign(s.inputs.size(), INT64_MAX);
  entry.notes.resize(threads());
  for (const Port& port : s.inputs) check_port(entry, port);
  for (const Port& port : s.outputs) {
    check_port(entry, port);
    require(port.columns > 0, "an output is f32");
  }
  for (size_t i = 0; i < s.inputs.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      require(!meet(s.inputs[i].offset, port_nbytes(entry, s.inputs[i]), s.inputs[j].offset,
                    port_nbytes(entry, s.inputs[j])),
              "two inputs share bytes of the io region");
  entries_.push_back(std::move(entry));
  return int(entries_.size()) - 1;
}

int64_t Engine::port_nbytes(const Entry& entry, const Port& port) const {
  return most_rows(entry, port.rows) * std::max<int64_t>(port.columns, 1) * 4;
}

void Engine::check_port(const Entry& entry, const Port& port) const {
  require(port.rows >= kRowsR && port.rows <= kMostRows, "a port's rows are out of range");
  require(port.columns >= 0 && port.columns < kMostStride / 4, "a port's columns are out of range");
  const int64_t nbytes = port_nbytes(entry, port);
  require(port.offset >= 0 && port.offset % 4 == 0 && port.offset <= sizes_.io && nbytes <= sizes_.io - port.offset,
          "a port is not inside the io region");
}

int64_t Engine::most_rows(const Entry& entry, int64_t rows) const {
  return rows == kRowsT ? entry.shape.max_tokens : rows == kRowsR ? entry.shape.max_logits : rows;
}

// Whether the last command that wrote the place's first byte left q8 records there.
bool Engine::written_as_q8(const Entry& entry, const OperandPlace& place) const {
  for (auto bound = entry.commands.rbegin(); bound != entry.commands.rend(); ++bound) {
    const Contract& contract = *find_contract(bound->command.opcode);
    for (size_t i = 0; i < contract.operands.size(); ++i) {
      const auto& out = bound->places[i];
      if (contract.operands[i].role != kOut || out->region != place.region) continue;
      const int64_t rows = most_rows(entry, bound->rows);
      const Extent extent = operand_extent(contract, bound->command, int(i), rows, entry.shape.max_tokens, false);
      if (place.offset >= out->offset && place.offset < out->offset + extent.nbytes)
        return contract.operands[i].kind == kQ8;
    }
  }
  return false;
}

void Engine::check_operand(const Entry& entry, const Contract& contract, const Bound& bound, int operand) const {
  const OperandSpec& spec = contract.operands[operand];
  const OperandPlace& place = *bound.places[operand];
  const auto fail = [&](const std::string& what) {
    refuse(std::string(contract.name) + ": operand " + std::string(spec.name) + " " + what);
  };
  const bool weight = spec.role == kWeight, state = spec.role == kStateRead || spec.role == kStateWrite;
  const bool vector = spec.or_vector && place.region == kWeights && place.stride == 0;
  const bool fits = weight  ? place.region == kWeights
                    : state ? place.region == kKvRegion
                            : vector || place.region == kArena || place.region == kIo;
  if (!fits) fail("is in region " + std::to_string(place.region) + ", where it cannot be");
  if (place.stride < 0 || place.stride >= kMostStride) fail("has a stride out of range");
  const int64_t rows = most_rows(entry, bound.rows), size = region_nbytes(place.region);
  const Extent extent =
      operand_extent(contract, bound.command, operand, rows, entry.shape.max_tokens, bound.x_is_q8);
  const Extent one = operand_extent(contract, bound.command, operand, 1, 1, bound.x_is_q8);
  if (place.offset < 0 || place.offset > size || extent.nbytes > size - place.offset)
    fail("needs " + std::to_string(extent.nbytes) + " bytes at " + std::to_string(place.offset) + " of a region of " +
         std::to_string(size));
  if (place.offset % extent.alignment || (has_rows(spec.kind) && place.stride % extent.alignment))
    fail("is not aligned to " + std::to_string(extent.alignment) + " bytes");
  if (spec.role == kOut) {
    if (rows > 1 && place.stride < one.nbytes) fail("has rows that overlap");
    for (const Port& port : entry.shape.inputs)
      if (place.region == kIo && port.columns == 0 &&
          meet(place.offset, extent.nbytes, port.offset, port_nbytes(entry, port)))
        fail("would overwrite the tokens");
  }
  if (spec.kind == kTokens && ids_port(entry, bound, place) < 0) fail("is not the entry's tokens");
}

// The input whose ids a command reads, each of them checked before a run; -1: none.
int64_t Engine::ids_port(const Entry& entry, const Bound& bound, const OperandPlace& place) const {
  const auto& inputs = entry.shape.inputs;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Port& port = inputs[i];
    if (place.region != kIo || port.columns != 0 || port.offset != place.offset) continue;
    const bool same = port.rows == bound.rows, all = port.rows == kRowsT && bound.rows >= 0;  // see fixed_rows
    const bool fewer = port.rows >= 0 && most_rows(entry, bound.rows) <= port.rows;
    if (same || all || fewer) return int64_t(i);
  }
  return -1;
}

// What a run must respect so that this command stays inside its table, caches and scratch.
void Engine::note_limits(Entry& entry, const Bound& bound) const {
  const Command& command = bound.command;
  if (command.opcode == kEmbed) {
    int64_t& limit = entry.id_limits[ids_port(entry, bound, *bound.places[0])];
    limit = std::min(limit, ints_of<WeightInts>(command).n);
  }
  if (const int64_t context = context_of(command); context >= 0) entry.context = std::min(entry.context, context);
  const int64_t rotary_dim = command.opcode == kRope ? ints_of<RopeInts>(command).rotary_dim : 0;
  if (rotary_dim > 0)
    for (int i : {1, 2}) {
      const int64_t positions = (int64_t(weights_.size()) - bound.places[i]->offset) / (rotary_dim * 2);
      entry.context = std::min(entry.context, positions);
    }
  if (bound.rows >= 0) entry.fixed_rows = std::max(entry.fixed_rows, bound.rows);
}

void Engine::add_command(int number, int opcode, int64_t rows,
                         std::span<const std::optional<OperandPlace>> operands, std::span<const int64_t> ints,
                         std::span<const float> floats) {
  if (io_) throw std::logic_error("the engine is finished");
  Entry& entry = at(number);
  const Contract* contract = find_contract(opcode);
  if (!contract) refuse("unknown opcode " + std::to_string(opcode));
  if (operands.size() != contract->operands.size() || ints.size() != contract->ints.size() ||
      floats.size() != float_count(*contract, ints))
    refuse(std::string(contract->name) + ": wrong number of operands or attributes");
  require(rows >= kRowsR && rows <= entry.shape.max_tokens, "rows is out of range");
  Bound bound;
  bound.rows = rows;
  bound.by_segment = contract->by_segment;
  Command& command = bound.command;
  command.opcode = opcode;
  std::ranges::copy(ints, command.ints);
  std::ranges::copy(floats, command.floats);
  for (size_t i = 0; i < operands.size(); ++i) {
    bound.places[i] = operands[i];
    if (!operands[i]) continue;
    command.operand[i] = &command;  // present; its address follows in finish()
    command.stride[i] = operands[i]->stride;
    const OperandSpec& spec = contract->operands[i];
    const bool every = spec.all_rows || rows == kRowsT;
    bound.bases[i] = operands[i]->region == kKvRegion ? Base::kState
                     : !has_rows(spec.kind)           ? Base::kSame
                     : every                          ? Base::kToken
                                                      : Base::kRow;
  }
  check_attributes(*contract, command);
  if (contract->operands[0].or_q8) bound.x_is_q8 = written_as_q8(entry, *bound.places[0]);
  for (size_t i = 0; i < operands.size(); ++i)
    if (bound.places[i]) check_operand(entry, *contract, bound, int(i));
  note_limits(entry, bound);
  entry.commands.push_back(bound);
}

std::byte* Engine::region_data(int region) const {
  switch (region) {
    case kWeights: return const_cast<std::byte*>(weights_.data());
    case kArena: return arena_->data();
    default: return io_->data();
  }
}

void Engine::finish() {
  if (io_) throw std::logic_error("the engine is finished");
  arena_.emplace(sizes_.arena, true);
  Pages io(sizes_.io, true);
  io_.emplace(std::move(io));
  for (Entry& entry : entries_) {
    find_shared(entry);
    for (size_t i = 0; i < entry.shape.outputs.size(); ++i) entry.writers.push_back(find_writer(entry, i));
    for (Bound& bound : entry.commands) {
      Command& command = bound.command;
      bound.kernel = choose_kernel(command.opcode, variant_of(command), bound.x_is_q8, isa_);
      if (!bound.kernel) refuse(std::string(find_contract(command.opcode)->name) + ": no kernel for this variant");
      for (int i = 0; i < kMaxOperands; ++i)
        if (bound.places[i] && bound.bases[i] != Base::kState)
          command.operand[i] = region_data(bound.places[i]->region) + bound.places[i]->offset;
      const size_t need = bound.kernel->scratch(command, most_rows(entry, bound.rows));
      scratch_stride_ = std::max(scratch_stride_, need);
      bound.stream = Stream::of(command);
      bound.site = site_of(bound);
    }
    size_t next = entry.commands.size();
    for (size_t i = next; i-- > 0;) {
      entry.commands[i].next_stream = next;
      if (entry.commands[i].stream.weights) next = i;
    }
  }
  scratch_stride_ = size_t(align_up(int64_t(scratch_stride_), 4096));
  scratch_.emplace(scratch_stride_ * threads(), true);
}

// The number of a linear's weight and rows, -1 for other commands: entries share weights.
int Engine::site_of(const Bound& bound) {
  const Command& command = bound.command;
  if (command.opcode != kLinear) return -1;
  const PackedUnits units = packed_units(command);
  const auto ints = ints_of<LinearInts>(command);
  const Site site{bound.places[1]->offset, ints.k, units.count * (ints.paired() ? 2 : 1), bound.x_is_q8};
  const auto found = std::ranges::find(sites_, site) - sites_.begin();
  if (size_t(found) == sites_.size()) sites_.push_back(site);
  return int(found);
}

Adapter Engine::adapter(std::span<const std::byte> data, int form, std::span<const AdapterPart> parts) {
  if (!scratch_) throw std::logic_error("finish() has not been called");
  int64_t max_rows = 1;
  for (const Entry& entry : entries_) max_rows = std::max(max_rows, entry.shape.max_tokens);
  Adapter made(data, form, parts, sites_, max_rows, isa_);
  const std::lock_guard lock(running_);
  if (!adapting_) adapting_.emplace(max_rows, threads());
  adapting_->fit(made);
  return made;
}

void Engine::start_profile() {
  if (!scratch_) throw std::logic_error("finish() has not been called");
  const std::lock_guard lock(running_);
  for (Entry& entry : entries_) entry.profile.allocate(threads(), entry.commands.size());
}

std::vector<Stamp> Engine::stamps(int entry) {
  const std::lock_guard lock(running_);
  return at(entry).profile.stamps();
}

void Engine::place(int number, Placement placement) {
  Entry& entry = at(number);
  const auto empty = [](const cpu_set_t& cores) { return CPU_COUNT(&cores) == 0; };
  const bool whole = placement.cores.empty() || placement.cores.size() == size_t(threads());
  require(whole && std::ranges::none_of(placement.cores, empty), "a placement is cores for every thread, or nothing");
  const std::lock_guard lock(running_);
  entry.placement = std::move(placement);
}

Placement Engine::placement(int entry) {
  const std::lock_guard lock(running_);
  return at(entry).placement;
}

std::vector<Whereabouts> Engine::whereabouts(int entry) {
  const std::lock_guard lock(running_);
  return at(entry).notes;
}

std::vector<std::string> Engine::kernel_names(int entry) const {
  std::vector<std::string> names;
  for (const Bound& bound : at(entry).commands) names.emplace_back(bound.kernel ? bound.kernel->name : "");
  return names;
}

}  // namespace hearth
