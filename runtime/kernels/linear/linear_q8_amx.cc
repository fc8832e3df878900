// Integer linears on AMX: 32 rows x 32 channels of sums in four tiles, 64 values of K a step.
//
// A part (32 channels x up to 448 values of K) is expanded to signed bytes, tile by tile, and multiplied with all
// rows while it lies in the first cache; the sums of a block of rows wait in scratch from one part to the next. What
// the vector units do meanwhile is handed out evenly between the steps (Aside): the next part is expanded, the packed
// bytes of the panel after this one are fetched, and the sums of the panel before it become y. Few rows are left
// to the VNNI kernels. docs/kernels.md has the cycles.
#include <immintrin.h>

#include "linear/epilogue.h"
#include "linear/table_lines.h"

namespace hearth::avx512vnni {
void linear_q8_q4b16(const Command&, const Call&);
void linear_q8_q8b16(const Command&, const Call&);
void linear_q8_t2b16(const Command&, const Call&);
void linear_q8_t3b16(const Command&, const Call&);
void linear_q8_t4b16(const Command&, const Call&);
void linear_q8_t5b16(const Command&, const Call&);
void linear_q8_t6b16(const Command&, const Call&);
size_t linear_q8_scratch(const Command&, int64_t max_rows);
}  // namespace hearth::avx512vnni

namespace hearth::HEARTH_ISA {
namespace {

// GCC's own macros neither keep stores before a tile load nor (12) before the load of the configuration.
#define TILE_ZERO(tile) asm volatile("tilezero %%tmm" #tile ::)
#define TILE_LOAD(tile, from, stride) \
  asm volatile("tileloadd (%0,%1,1), %%tmm" #tile ::"r"(from), "r"(int64_t(stride)) : "memory")
#define TILE_STORE(tile, to, stride) \
  asm volatile("tilestored %%tmm" #tile ", (%0,%1,1)" ::"r"(to), "r"(int64_t(stride)) : "memory")
#define TILE_DOT(sums, rows, weights) asm volatile("tdpbssd %%tmm" #weights ", %%tmm" #rows ", %%tmm" #sums ::)

constexpr int64_t kVnniRows = 4;  // up to here VNNI multiplies at the speed of memory, without expanding first
constexpr int64_t kStep = 64, kTileNbytes = 1024, kBlockRows = 32, kSumsStride = 32;
constexpr int64_t kPartSteps = 7;         // 14 KiB of weights, while as much of x passes: they stay in L1
constexpr int64_t kRowsNbytes = 5 << 18;  // codes of the rows of one pass: they stay in L2, beside the weights
constexpr int64_t kMostRows = 512;
constexpr int64_t kPartNbytes = 2 * kPartSteps * kTileNbytes;

struct alignas(64) TileConfig {
  uint8_t palette, start_row, unused[14];
  uint16_t row_nbytes[16];
  uint8_t rows[16];
};

// Tiles 0 to 3: sums (rows 0, 1 x blocks 0, 1); 4, 5: codes; 6, 7: weights. Only a product of fewer than 32 rows
// has lower tiles: with more, the last block begins where it ends at the last row (a configuration costs 200 cycles).
class Tiles {
 public:
  explicit Tiles(int64_t rows) {
    TileConfig config{};
    config.palette = 1;
    const int64_t upper = smaller(rows, 16), lower = smaller(rows, 32) - upper;
    const int64_t heights[8] = {upper, upper, lower, lower, upper, lower, 16, 16};
    for (int i = 0; i < 8; ++i) {
      config.rows[i] = static_cast<uint8_t>(heights[i]);
      config.row_nbytes[i] = heights[i] ? 64 : 0;
    }
    asm volatile("ldtilecfg %0" ::"m"(config));
  }
  Tiles(const Tiles&) = delete;
  ~Tiles() { asm volatile("tilerelease" ::); }
};

// How the rows of a product are cut: passes of blocks of 32, the last block 16 or 32 rows that end at the last row.
struct Rows {
  int64_t all, blocks, blocks_at_once;
  Rows(int64_t rows, int64_t kp) : all(rows), blocks((rows + kBlockRows - 1) / kBlockRows) {
    const int64_t fit = kRowsNbytes / kp / kBlockRows, most = kMostRows / kBlockRows;
    blocks_at_once = smaller(blocks, fit < 1 ? 1 : smaller(fit, most));
  }
  int64_t passes() const { return (blocks + blocks_at_once - 1) / blocks_at_once; }
  int64_t end(int64_t block) const { return smaller(all, (block + 1) * kBlockRows); }
  bool half(int64_t block) const { return end(block) - block * kBlockRows <= 16; }
  int64_t first(int64_t block) const {
    const int64_t row = end(block) - (half(block) ? 16 : kBlockRows);
    return row < 0 ? 0 : row;
  }
};

// A step of a block, 64 values of K, to a tile.
using Expand = void (*)(const Linear& l, int64_t block, int64_t step, uint8_t* out);

// One thread's units over the rows of one pass.
struct Pass {
  const Linear& l;
  Rows rows;
  Range blocks, units;
  uint8_t* weights;  // two parts, expanded
  int32_t* sums;     // of two panels, [blocks * 32 rows][32]
  Expand expand;     // null where blocks are tiles as they lie

  int64_t panel_units() const { return 2 / l.blocks_per_unit; }
  int64_t panels() const { return (units.end - units.begin + panel_units() - 1) / panel_units(); }
  int64_t steps() const { return (l.packing.kp + kStep - 1) / kStep; }
  int64_t parts() const { return (steps() + kPartSteps - 1) / kPartSteps; }
  int64_t first_row() const { return blocks.begin * kBlockRows; }
  int64_t row_count() const { return rows.end(blocks.end - 1) - first_row(); }
  int32_t* panel_sums(int64_t panel) const {
    return sums + panel % 2 * (blocks.end - blocks.begin) * kBlockRows * kSumsStride;
  }
};

struct Panel {  // 32 channels, or the last 16
  int64_t unit, units, block, blocks;
  Panel(const Pass& p, int64_t index)
      : unit(p.units.begin + index * p.panel_units()),
        units(smaller(p.panel_units(), p.units.end - unit)),
        block(unit * p.l.blocks_per_unit),
        blocks(units * p.l.blocks_per_unit) {}
};

// A panel's steps [begin, end) of K, and its two blocks of tiles.
struct Part {
  int64_t panel, begin, end;
  uint8_t* tiles[2];
  Part(const Pass& p, int64_t index) : panel(index / p.parts()) {
    const Range steps = share(p.steps(), index % p.parts(), p.parts());
    begin = steps.begin, end = steps.end;
    const Panel of(p, panel);
    for (int64_t b = 0; b < 2; ++b)
      tiles[b] = p.expand ? p.weights + (index % 2 * 2 + b) * kPartSteps * kTileNbytes
                           : const_cast<uint8_t*>(p.l.block(of.block + (b < of.blocks ? b : 0)) + begin * kTileNbytes);
  }
};

__m512i effective(__m512i nibbles, __m512i flip, __m512i size, __m512i offset) {
  const __m512i codes = _mm512_ternarylogic_epi32(nibbles, _mm512_set1_epi8(0x0f), flip, 0x6a);  // (a & b) ^ c
  return _mm512_add_epi8(_mm512_mullo_epi16(codes, size), offset);
}

// 32 values of K to 8 lines of signed bytes c * m. With n = c + 8 that is n * |m| - 8 |m|, or where m < 0, from
// 15 - n = n ^ 15, (15 - n) * |m| - 7 |m|: products of 0 .. 225, so that one 16-bit product makes two bytes.
[[gnu::always_inline]] inline void expand32(const uint8_t* w, const uint8_t* multipliers, uint8_t* out) {
  const __m512i words = _mm512_broadcast_i32x4(_mm_set_epi32(-0x7ff37ff4, -0x7ff77ff8, -0x7ffb7ffc, -0x7fff8000));
  const __m512i lanes = _mm512_broadcast_i32x4(_mm_set_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0));
  const __m512i m = _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(multipliers)));
  const __m512i size = _mm512_abs_epi32(m), negative = _mm512_srai_epi32(m, 31);
  const __m512i sevens_or_eights = _mm512_sub_epi32(_mm512_and_si512(negative, size), _mm512_slli_epi32(size, 3));
  const __m512i offset = _mm512_shuffle_epi8(sevens_or_eights, lanes), sizes = _mm512_shuffle_epi8(size, words);
  const __m512i flip = _mm512_and_si512(negative, _mm512_set1_epi8(0x0f));
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i, out += 128) {
    const __m512i nibbles = _mm512_loadu_si512(w + i * 64);
    _mm512_store_si512(out, effective(nibbles, flip, sizes, offset));
    _mm512_store_si512(out + 64, effective(_mm512_srli_epi16(nibbles, 4), flip, sizes, offset));
  }
}

void expand_q4(const Linear& l, int64_t block, int64_t step, uint8_t* out) {
  const uint8_t* from = l.block(block);
  const int64_t k = step * kStep;
  expand32(from + l.packing.nibbles_of(k), from + l.packing.multipliers_of(k), out);
  expand32(from + l.packing.nibbles_of(k + 32), from + l.packing.multipliers_of(k + 32), out + kTileNbytes / 2);
}

// K of tables ends with a multiple of 32: a whole tile needs zeros then.
template <int kBits>
void expand_t(const Linear& l, int64_t block, int64_t step, uint8_t* out) {
  const int64_t k = step * kStep, count = smaller(kStep, l.packing.kp - k);
  expand_table<kBits, 0>(l, block, k, count, out, 64);
  for (int64_t at = count * 16; at < kTileNbytes; at += 64) _mm512_store_si512(out + at, _mm512_setzero_si512());
}

// Items from `done` on, `per_round` of them spread evenly over `rounds`.
struct Pace {
  int64_t per_round, rounds, done, due;
  void round() { due += per_round; }
  bool next() {
    if (due < rounds) return false;
    due -= rounds;
    return true;
  }
};

// What happens beside one part's tile instructions, in as many calls of step() as there are steps.
class Aside {
 public:
  // The part that follows, -1 for none, is made ready; of the panel before this one `fours` of rows become y.
  Aside(const Pass& pass, int64_t next_part, int64_t panel_before, Range fours, int64_t steps)
      : p_(pass), next_(pass, next_part < 0 ? 0 : next_part), before_(pass, panel_before < 0 ? 0 : panel_before),
        next_block_(Panel(pass, next_.panel).block), next_steps_(next_.end - next_.begin),
        tiles_{next_part < 0 ? 0 : next_steps_ * Panel(pass, next_.panel).blocks, steps, 0, 0},
        fours_{fours.end - fours.begin, steps, fours.begin, 0},
        sums_(pass.panel_sums(panel_before & 1)),
        values_{{pass.l, before_.unit, true}, {pass.l, before_.unit + before_.units - 1, true}} {}

  // Lines of memory to bring into L2.
  void fetch(const uint8_t* from, int64_t lines) { fetch_ = from, lines_ = {lines, tiles_.per_round, 0, 0}; }

  // Not inlined, so that the tiles' loop stays one of tile instructions.
  [[gnu::noinline]] void step() {
    for (tiles_.round(); tiles_.next();) make_tile(tiles_.done++);
    for (fours_.round(); fours_.next();) finish_four(fours_.done++);
  }

 private:
  void make_tile(int64_t i) {
    for (lines_.round(); lines_.next();) __builtin_prefetch(fetch_ + 64 * lines_.done++, 0, 2);
    const int64_t b = i >= next_steps_, step = b ? i - next_steps_ : i;
    if (p_.expand) p_.expand(p_.l, next_block_ + b, next_.begin + step, next_.tiles[b] + step * kTileNbytes);
  }

  // Four rows of a panel: from sums to y.
  void finish_four(int64_t i) {
    const int64_t row = p_.first_row() + i * 4, block = row / kBlockRows;
    const int64_t slot = (block - p_.blocks.begin) * kBlockRows + row - p_.rows.first(block);
    finish<true>(p_.l, values_, before_.units, row, smaller(4, p_.rows.end(block) - row),
                 IntegerSums{sums_ + slot * kSumsStride, kSumsStride});
  }

  const Pass& p_;
  const Part next_;
  const Panel before_;
  const int64_t next_block_, next_steps_;
  Pace tiles_, lines_{0, 1, 0, 0};
  const uint8_t* fetch_ = nullptr;
  Pace fours_;
  const int32_t* const sums_;
  const UnitValues values_[2];  // of the panel before
};

struct Block {
  const int8_t* x;  // codes of the first row and step
  int64_t x_stride, steps;
  const uint8_t* w[2];
  int32_t* sums;
  bool load, store;  // the sums: else they begin at 0, or stay in their tiles
};

// sums += x times w^T for 16 or 32 rows and 16 or 32 channels.
template <bool kLower, bool kSecond>
void multiply(const Block& b, Aside& aside) {
  int32_t* lower_sums = b.sums + 16 * kSumsStride;
  if (b.load) {
    TILE_LOAD(0, b.sums, kSumsStride * 4);
    if (kSecond) TILE_LOAD(1, b.sums + 16, kSumsStride * 4);
    if (kLower) TILE_LOAD(2, lower_sums, kSumsStride * 4);
    if (kLower && kSecond) TILE_LOAD(3, lower_sums + 16, kSumsStride * 4);
  }
  const int8_t* x = b.x;
  const int8_t* lower = b.x + 16 * b.x_stride;
  for (int64_t at = 0; at < b.steps * kTileNbytes; at += kTileNbytes, x += kStep, lower += kStep) {
    TILE_LOAD(4, x, b.x_stride);
    TILE_LOAD(6, b.w[0] + at, 64);
    TILE_DOT(0, 4, 6);
    if (kSecond) {
      TILE_LOAD(7, b.w[1] + at, 64);
      TILE_DOT(1, 4, 7);
    }
    if (kLower) {
      TILE_LOAD(5, lower, b.x_stride);
      TILE_DOT(2, 5, 6);
      if (kSecond) TILE_DOT(3, 5, 7);
    }
    aside.step();
  }
  if (b.store) {
    TILE_STORE(0, b.sums, kSumsStride * 4);
    if (kSecond) TILE_STORE(1, b.sums + 16, kSumsStride * 4);
    if (kLower) TILE_STORE(2, lower_sums, kSumsStride * 4);
    if (kLower && kSecond) TILE_STORE(3, lower_sums + 16, kSumsStride * 4);
  }
}

void zero(bool lower, bool second) {
  TILE_ZERO(0);
  if (second) TILE_ZERO(1);
  if (lower) TILE_ZERO(2);
  if (lower && second) TILE_ZERO(3);
}

void multiply_part(const Pass& p, const Part& part, int64_t number, Aside& aside) {
  const Panel panel(p, part.panel);
  const bool first = number == 0, last = number == p.parts() - 1, alone = p.blocks.end - p.blocks.begin == 1;
  const bool second = panel.blocks == 2;
  for (int64_t i = p.blocks.begin; i < p.blocks.end; ++i) {
    const bool lower = !p.rows.half(i);
    if (first) zero(lower, second);
    const Block block{p.l.codes(p.rows.first(i)) + part.begin * kStep, p.l.x_stride, part.end - part.begin,
                      {part.tiles[0], part.tiles[1]},
                      p.panel_sums(part.panel) + (i - p.blocks.begin) * kBlockRows * kSumsStride,
                      !first && !alone, last || !alone};
    (lower ? second ? multiply<true, true> : multiply<true, false>
           : second ? multiply<false, true> : multiply<false, false>)(block, aside);
  }
}

int64_t fours_of(const Pass& p) { return (p.row_count() + 3) / 4; }

// Everything an Aside does, without tiles.
void run_alone(const Pass& p, int64_t next_part, int64_t panel_before) {
  Aside(p, next_part, panel_before, {0, panel_before < 0 ? 0 : fours_of(p)}, 1).step();
}

void run_pass(const Pass& p) {
  const int64_t panels = p.panels(), parts = p.parts(), blocks = p.blocks.end - p.blocks.begin;
  run_alone(p, 0, -1);
  for (int64_t panel = 0; panel < panels; ++panel)
    for (int64_t number = 0; number < parts; ++number) {
      const Part part(p, panel * parts + number);
      const bool ends = panel == panels - 1 && number == parts - 1;
      const Range fours = panel ? share(fours_of(p), number, parts) : Range{0, 0};
      Aside aside(p, ends ? -1 : panel * parts + number + 1, panel - 1, fours, blocks * (part.end - part.begin));
      if (panel + 1 < panels) {
        const Panel next(p, panel + 1);
        const Range lines = share(next.blocks * p.l.packing.stride / 64, number, parts);
        aside.fetch(p.l.block(next.block) + lines.begin * 64, lines.end - lines.begin);
      }
      multiply_part(p, part, number, aside);
    }
  run_alone(p, -1, panels - 1);
}

void run(const Command& command, const Call& call, Expand expand) {
  const Linear l(command, call.deltas);
  const Rows rows(call.rows, l.packing.kp);
  const int64_t panel_units = 2 / l.blocks_per_unit;
  const Range panels = share((l.units + panel_units - 1) / panel_units, call.thread, call.threads);
  if (panels.begin == panels.end) return;
  uint8_t* weights = reinterpret_cast<uint8_t*>(call.scratch);
  const Tiles tiles(call.rows);
  for (int64_t i = 0; i < rows.passes(); ++i)
    run_pass({l, rows, share(rows.blocks, i, rows.passes()),
              {panels.begin * panel_units, smaller(l.units, panels.end * panel_units)}, weights,
              reinterpret_cast<int32_t*>(weights + 2 * kPartNbytes), expand});
}

}  // namespace

void linear_q8_q4b16(const Command& command, const Call& call) {
  if (call.rows <= kVnniRows) avx512vnni::linear_q8_q4b16(command, call);
  else run(command, call, expand_q4);
}
void linear_q8_q8b16(const Command& command, const Call& call) {
  if (call.rows <= kVnniRows) avx512vnni::linear_q8_q8b16(command, call);
  else run(command, call, nullptr);
}
void linear_q8_t2b16(const Command& command, const Call& call) {
  if (call.rows <= kVnniRows) avx512vnni::linear_q8_t2b16(command, call);
  else run(command, call, expand_t<2>);
}
void linear_q8_t3b16(const Command& command, const Call& call) {
  if (call.rows <= kVnniRows) avx512vnni::linear_q8_t3b16(command, call);
  else run(command, call, expand_t<3>);
}
void linear_q8_t4b16(const Command& command, const Call& call) {
  if (call.rows <= kVnniRows) avx512vnni::linear_q8_t4b16(command, call);
  else run(command, call, expand_t<4>);
}
void linear_q8_t5b16(const Command& command, const Call& call) {
  if (call.rows <= kVnniRows) avx512vnni::linear_q8_t5b16(command, call);
  else run(command, call, expand_t<5>);
}
void linear_q8_t6b16(const Command& command, const Call& call) {
  if (call.rows <= kVnniRows) avx512vnni::linear_q8_t6b16(command, call);
  else run(command, call, expand_t<6>);
}

size_t linear_q8_scratch(const Command& command, int64_t max_rows) {
  const size_t few = avx512vnni::linear_q8_scratch(command, smaller(max_rows, kVnniRows));
  if (max_rows <= kVnniRows) return few;
  const Rows rows(max_rows, Linear(command).packing.kp);
  const size_t many = size_t(2 * kPartNbytes + 2 * rows.blocks_at_once * kBlockRows * kSumsStride * 4);
  return many > few ? many : few;
}

}  // namespace hearth::HEARTH_ISA
