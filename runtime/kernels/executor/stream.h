// How threads read the weight of a linear of few rows, which costs what its bytes cost: in pieces, so that all end
// together however fast each is, and begun while a thread waits for another.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernel.h"

namespace hearth {

// A packed weight as a run reads it; empty for every other command.
struct Stream {
  static constexpr int64_t kFewRows = 8;  // more of them compute longer than they read

  const std::byte* weights = nullptr;
  int64_t units = 0, unit_nbytes = 0;  // what one thread computes whole

  static Stream of(const Command& command);
  bool shared(int64_t rows, int threads) const { return weights && rows <= kFewRows && threads > 1; }
  // Pieces of each thread's share: each is half of what is left, the last two are equal. Every piece stops the stream for
  // a moment, so there are few; threads end apart by a last one, so that is small.
  int pieces(int threads) const;
};

// A piece as the share of one thread of many.
struct Piece {
  int thread, threads;

  Piece(int owner, int piece, int pieces, int owners) {
    const int parts = 1 << std::min(piece + 1, pieces - 1);
    thread = owner * parts + parts - (piece + 1 < pieces ? 2 : 1);
    threads = owners * parts;
  }
};

// Pieces of a command's work: a thread takes its own in order, then those that others have not come to. Two sets of
// counters, used in turn: what a barrier has closed is made ready again behind the next.
class Handout {
 public:
  explicit Handout(int threads) : threads_(threads), counters_(size_t(threads) * 2) {}
  void reset() {
    for (Counter& each : counters_) each.taken.store(0, std::memory_order_relaxed);
  }
  template <class Work>
  void each(int turn, int thread, int pieces, Work work) {
    Counter* const now = &counters_[size_t(turn % 2 * threads_)];
    counters_[size_t((turn + 1) % 2 * threads_ + thread)].taken.store(0, std::memory_order_relaxed);
    for (int i = 0; i < threads_; ++i) {
      const int owner = (thread + i) % threads_;
      while (now[owner].taken.load(std::memory_order_relaxed) < pieces) {
        const int piece = now[owner].taken.fetch_add(1, std::memory_order_relaxed);
        if (piece < pieces) work(Piece(owner, piece, pieces, threads_));
      }
    }
  }

 private:
  struct alignas(64) Counter {
    std::atomic<int> taken{0};
  };
  const int threads_;
  std::vector<Counter> counters_;
};

// Brings the beginning of a thread's share of the next stream into its L2.
class Prefetch {
 public:
  Prefetch(int thread, int threads) : thread_(thread), threads_(threads) {}
  // The stream to come; again for the same goes on.
  void aim(const Stream& next);
  // A few lines; false where there is nothing to do.
  bool operator()();

 private:
  const int thread_, threads_;
  const Stream* aim_ = nullptr;
  const std::byte *at_ = nullptr, *end_ = nullptr;
};

}  // namespace hearth
