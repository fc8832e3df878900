// When each thread began and ended each command of the last run of an entry; kept only where it was asked for.
#pragma once

#include <time.h>

#include <cstdint>
#include <vector>

namespace hearth {

// Nanoseconds of the monotonic clock.
struct Stamp {
  int64_t began = 0, ended = 0;
};

inline int64_t clock_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * int64_t{1'000'000'000} + t.tv_nsec;
}

// Stamps [threads][commands] of one entry. Without memory, which is the usual case, nothing is noted.
class Profile {
 public:
  void allocate(int threads, size_t commands) { stamps_.assign(commands * size_t(threads), {}), commands_ = commands; }
  bool asked() const { return !stamps_.empty(); }
  void clear() { stamps_.assign(stamps_.size(), {}); }  // same size: nothing is allocated
  // The stamps of one thread, or null. Noting changes no entry: threads share one that is const.
  Stamp* of(int thread) const { return asked() ? stamps_.data() + size_t(thread) * commands_ : nullptr; }
  const std::vector<Stamp>& stamps() const { return stamps_; }

 private:
  mutable std::vector<Stamp> stamps_;
  size_t commands_ = 0;
};

// Notes one command of one thread, from its making to its end.
class Noting {
 public:
  explicit Noting(Stamp* stamp) : stamp_(stamp) {
    if (stamp_) stamp_->began = clock_ns();
  }
  ~Noting() {
    if (stamp_) stamp_->ended = clock_ns();
  }
  Noting(const Noting&) = delete;
  Noting& operator=(const Noting&) = delete;

 private:
  Stamp* const stamp_;
};

}  // namespace hearth
