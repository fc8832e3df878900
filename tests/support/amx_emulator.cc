// Emulates the tile instructions of AMX (palette 1, int8) where the CPU has none: a handler of SIGILL decodes the
// instruction at the fault, does to the thread's tiles and memory what the SDM says, and steps over it.
//
// What the SDM answers with #UD or #GP ends the process with a message. Only the bytes that an instruction
// touches are touched, so guard pages work. Any other instruction goes to the handler that was there before.
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <initializer_list>

namespace {

constexpr int kTiles = 8, kMostRows = 16, kRowNbytes = 64;

struct Tile {
  uint8_t row[kMostRows][kRowNbytes];
};
struct State {
  bool configured;
  uint8_t config[64];
  Tile tiles[kTiles];
};

// A pointer: a library loaded late has little room for variables of threads.
__attribute__((tls_model("initial-exec"))) thread_local State* of_thread = nullptr;
struct sigaction before;
uint64_t served = 0;

[[noreturn]] void violation(const char* what) {
  char text[160];
  const int size = snprintf(text, sizeof text, "AMX emulator: %s\n", what);
  if (write(2, text, size_t(size)) < 0) _exit(134);
  signal(SIGABRT, SIG_DFL);
  abort();
}
void check(bool holds, const char* what) {
  if (!holds) violation(what);
}

State& state() {
  if (!of_thread) {
    void* memory = mmap(nullptr, sizeof(State), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(memory != MAP_FAILED, "no memory for tiles");
    of_thread = static_cast<State*>(memory);
  }
  return *of_thread;
}

int rows_of(const State& s, int tile) { return s.config[48 + tile]; }
int nbytes_of(const State& s, int tile) { return s.config[16 + 2 * tile] | s.config[17 + 2 * tile] << 8; }

// The instruction, taken apart: VEX.128.pp.0F38.W0 opcode /r.
struct Instruction {
  int prefix, opcode, reg, rm, source, length;  // prefix: 0 none, 1 66, 2 F3, 3 F2
  bool memory, has_sib;
  uint64_t address, index_step;  // of memory; index << scale
};

uint64_t general(const greg_t* g, int number) {
  static constexpr int kWhere[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                     REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  return uint64_t(g[kWhere[number]]);
}

template <class T>
T at(const uint8_t* p) {
  T value;
  memcpy(&value, p, sizeof value);
  return value;
}

void decode_memory(const uint8_t* p, const greg_t* g, int mod, int x, int b, Instruction& i) {
  const uint8_t* const modrm = p++;
  const int low = *modrm & 7;
  i.has_sib = low == 4;
  int base = low | b << 3;
  bool has_base = true;
  if (i.has_sib) {
    const int index = (*p >> 3 & 7) | x << 3, scale = *p >> 6;
    base = (*p & 7) | b << 3;
    has_base = (*p & 7) != 5 || mod != 0;
    if (index != 4) i.index_step = general(g, index) << scale;
    ++p;
  }
  const bool rip = !i.has_sib && low == 5 && mod == 0;
  if (mod == 1) i.address = uint64_t(int64_t(at<int8_t>(p))), p += 1;
  else if (mod == 2 || rip || !has_base) i.address = uint64_t(int64_t(at<int32_t>(p))), p += 4;
  i.length = int(p - modrm) + 4;
  if (rip) i.address += uint64_t(g[REG_RIP]) + uint64_t(i.length);
  else if (has_base) i.address += general(g, base);
}

bool decode(const greg_t* g, Instruction& i) {
  const uint8_t* p = reinterpret_cast<const uint8_t*>(g[REG_RIP]);
  if (p[0] != 0xc4 || (p[1] & 31) != 2) return false;
  const int opcode = p[3];
  if (opcode != 0x49 && opcode != 0x4b && opcode != 0x5e) return false;
  const int r = !(p[1] & 0x80), x = !(p[1] & 0x40), b = !(p[1] & 0x20), mod = p[4] >> 6;
  i = {p[2] & 3, opcode, (p[4] >> 3 & 7) | r << 3, (p[4] & 7) | b << 3, ~(p[2] >> 3) & 15, 5, mod != 3, false, 0, 0};
  check(!(p[2] & 0x80), "#UD: VEX.W is 1");
  check(!(p[2] & 4), "#UD: VEX.L is 1");
  check(opcode == 0x5e || i.source == 0, "#UD: VEX.vvvv is not 1111b");
  if (i.memory) decode_memory(p + 4, g, mod, x, b, i);
  return true;
}

void configure(State& s, const uint8_t* from) {
  uint8_t config[64];
  memcpy(config, from, 64);
  check(config[0] <= 1, "#GP: no such palette");
  if (config[0] == 0) {
    memset(&s, 0, sizeof s);
    return;
  }
  for (int i = 2; i < 16; ++i) check(config[i] == 0, "#GP: reserved bytes of the configuration are not 0");
  for (int i = 32; i < 48; ++i) check(config[i] == 0, "#GP: bytes per row of a tile beyond the eighth");
  for (int i = 56; i < 64; ++i) check(config[i] == 0, "#GP: rows of a tile beyond the eighth");
  State next{};
  memcpy(next.config, config, 64);
  for (int t = 0; t < kTiles; ++t) {
    check(nbytes_of(next, t) <= kRowNbytes, "#GP: a tile's rows are above 64 bytes");
    check(rows_of(next, t) <= kMostRows, "#GP: a tile has more than 16 rows");
    check((rows_of(next, t) == 0) == (nbytes_of(next, t) == 0), "#GP: a tile has rows or bytes alone");
  }
  next.configured = true;
  s = next;
}

// A tile that the configuration has made valid.
int valid(const State& s, int tile) {
  check(s.configured, "#UD: no tiles are configured");
  check(tile < kTiles, "#UD: no such tile");
  check(rows_of(s, tile) != 0, "#UD: the tile is not configured");
  return tile;
}

void move(State& s, const Instruction& i) {
  check(i.has_sib, "#UD: a tile's memory operand needs a SIB byte");
  const int tile = valid(s, i.reg), rows = rows_of(s, tile);
  const size_t nbytes = size_t(nbytes_of(s, tile));
  Tile& t = s.tiles[tile];
  const bool store = i.prefix == 2;
  check(i.prefix == 1 || i.prefix == 2 || i.prefix == 3, "#UD: no tile instruction has this prefix");
  int row = s.config[1];
  for (; row < rows; ++row) {
    uint8_t* memory = reinterpret_cast<uint8_t*>(i.address + uint64_t(row) * i.index_step);
    if (store) {
      memcpy(memory, t.row[row], nbytes);
      continue;
    }
    memcpy(t.row[row], memory, nbytes);
    memset(t.row[row] + nbytes, 0, kRowNbytes - nbytes);
  }
  if (!store) memset(t.row[rows], 0, size_t(kMostRows - rows) * kRowNbytes);
  s.config[1] = 0;
}

int32_t byte_of(uint8_t byte, bool is_signed) { return is_signed ? int8_t(byte) : byte; }

void dot(State& s, const Instruction& i) {
  check(!i.memory, "#UD: a product takes tiles alone");
  const int to = valid(s, i.reg), a = valid(s, i.rm), b = valid(s, i.source);
  check(to != a && to != b && a != b, "#UD: a product needs three tiles");
  for (int t : {to, a, b}) check(nbytes_of(s, t) % 4 == 0, "#UD: a product's rows are no multiple of 4 bytes");
  const int rows = rows_of(s, to), columns = nbytes_of(s, to) / 4, inner = nbytes_of(s, a) / 4;
  check(rows_of(s, a) == rows, "#UD: rows of the first source are not those of the result");
  check(rows_of(s, b) == inner, "#UD: rows of the second source are not the columns of the first");
  check(nbytes_of(s, b) == columns * 4, "#UD: columns of the second source are not those of the result");
  const bool a_signed = i.prefix == 3 || i.prefix == 2, b_signed = i.prefix == 3 || i.prefix == 1;
  Tile& out = s.tiles[to];
  for (int m = 0; m < rows; ++m) {
    int32_t sums[16];
    memcpy(sums, out.row[m], sizeof sums);
    for (int k = 0; k < inner; ++k)
      for (int n = 0; n < columns; ++n) {
        int32_t four = 0;
        for (int j = 0; j < 4; ++j)
          four += byte_of(s.tiles[a].row[m][4 * k + j], a_signed) * byte_of(s.tiles[b].row[k][4 * n + j], b_signed);
        sums[n] = int32_t(uint32_t(sums[n]) + uint32_t(four));
      }
    memset(out.row[m], 0, kRowNbytes);
    memcpy(out.row[m], sums, size_t(columns) * 4);
  }
  memset(out.row[rows], 0, size_t(kMostRows - rows) * kRowNbytes);
  s.config[1] = 0;
}

void configuration(State& s, const Instruction& i) {
  if (i.memory) {
    check(i.reg == 0, "#UD: reg is not 0");
    uint8_t* memory = reinterpret_cast<uint8_t*>(i.address + i.index_step);
    if (i.prefix == 0) configure(s, memory);
    else if (i.prefix == 1) memcpy(memory, s.config, 64);
    else violation("#UD: no instruction of tiles has this prefix");
  } else if (i.prefix == 0) {
    check(i.reg == 0 && i.rm == 0, "#UD: reg or r/m of tilerelease is not 0");
    memset(&s, 0, sizeof s);
  } else {
    check(i.prefix == 3 && i.rm == 0, "#UD: no instruction of tiles has this form");
    memset(&s.tiles[valid(s, i.reg)], 0, sizeof(Tile));
    s.config[1] = 0;
  }
}

void pass_on(int number, siginfo_t* info, void* context) {
  if (before.sa_flags & SA_SIGINFO) before.sa_sigaction(number, info, context);
  else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) before.sa_handler(number);
  else sigaction(SIGILL, &before, nullptr);  // the instruction is met again
}

void on_sigill(int number, siginfo_t* info, void* context) {
  greg_t* g = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  Instruction i;
  if (!decode(g, i)) return pass_on(number, info, context);
  State& s = state();
  switch (i.opcode) {
    case 0x49: configuration(s, i); break;
    case 0x4b:
      check(i.memory, "#UD: a tile moves to or from memory");
      move(s, i);
      break;
    default: dot(s, i);
  }
  __atomic_fetch_add(&served, 1, __ATOMIC_RELAXED);
  g[REG_RIP] += i.length;
}

}  // namespace

// Once per process; 0, or -1 where the handler cannot be set.
extern "C" int install() {
  struct sigaction action {};
  action.sa_sigaction = on_sigill;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigemptyset(&action.sa_mask);
  return sigaction(SIGILL, &action, &before);
}

// Instructions emulated so far, in all threads.
extern "C" uint64_t instructions() { return __atomic_load_n(&served, __ATOMIC_RELAXED); }
