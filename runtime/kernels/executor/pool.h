// The threads of an engine: woken for a run, in step by a barrier, asleep between runs.
#pragma once

#include <pthread.h>
#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <vector>

#include "executor/placement.h"

namespace hearth {

// How often a thread looks, pausing in between, before it sleeps. The machine is shared: where spinning does not
// pay, it stops.
struct Patience {
  int spins, most;
  void after_sleep(int64_t waited_ns);
};

// A number that threads wait to see change: a short spin, then sleep (futex).
class Signal {
 public:
  uint32_t now() const { return value_.load(std::memory_order_acquire); }
  void wait_while(uint32_t old, Patience& patience);
  void advance();

 private:
  std::atomic<uint32_t> value_{0}, sleepers_{0};
};

// Threads that are given a core each stay there while they compute: a barrier's sleeps and wakes would otherwise let
// the scheduler gather them on the core that has the least else to do. Without, they stay where the caller may be.
class Pool {
 public:
  using Work = void (*)(void* context, int thread);

  explicit Pool(int threads);  // the caller is thread 0; threads - 1 are started
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return threads_; }
  // In a forked child, where the workers are gone, starts them anew and is true. Call before run(), from one
  // thread.
  bool revive();
  // Every thread does work(context, thread) where it is placed, and notes where that was; returns when all have.
  // The caller is then where it was before.
  void run(Work work, void* context, const Placement& placement, Whereabouts* notes);
  // Inside work: wait until all threads are here; meanwhile idle() as long as it says that there is more to do.
  template <class Idle>
  void barrier(int thread, Idle&& idle) {
    if (threads_ == 1) return;
    const uint32_t phase = phase_.now();
    if (last_to_arrive()) return;
    while (phase_.now() == phase && idle()) {}
    phase_.wait_while(phase, seats_[thread].inside);
  }
  void barrier(int thread) {
    barrier(thread, [] { return false; });
  }

 private:
  struct alignas(64) Seat {
    Pool* pool;
    int thread;
    Patience inside, between;  // for a barrier, for the next run
    cpu_set_t cores;           // a worker's, as it last asked for them
  };
  void start();
  void stop();
  void serve(int thread);
  bool last_to_arrive();
  void settle(Seat& seat) const;

  const int threads_;
  pid_t owner_ = 0;
  std::vector<pthread_t> workers_;
  std::vector<Seat> seats_;
  // The run: what is done, where the workers stay (each on its own cores, or all where the caller may be).
  Work work_ = nullptr;
  void* context_ = nullptr;
  const cpu_set_t* places_ = nullptr;
  cpu_set_t callers_;
  Whereabouts* notes_ = nullptr;
  bool stopping_ = false;
  alignas(64) Signal start_;
  alignas(64) Signal phase_;
  alignas(64) std::atomic<int> arrived_{0};
};

}  // namespace hearth
