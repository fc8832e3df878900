// Threads, futexes and the barrier.
#include "executor/pool.h"

#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <new>
#include <system_error>

namespace hearth {
namespace {

constexpr int kSpins = 2000;  // about 30 us of pause instructions

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

void futex(std::atomic<uint32_t>& word, int operation, uint32_t value) {
  static_assert(sizeof(word) == 4);
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), operation | FUTEX_PRIVATE_FLAG, value, nullptr, nullptr, 0);
}

int usable_cores() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

}  // namespace

void Signal::wait_while(uint32_t old, int spins) {
  for (int i = 0; i < spins; ++i) {
    if (now() != old) return;
    relax();
  }
  // Either advance() sees this sleeper, or the futex call sees the advanced value.
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  while (value_.load(std::memory_order_seq_cst) == old) futex(value_, FUTEX_WAIT, old);
  sleepers_.fetch_sub(1, std::memory_order_relaxed);
}

void Signal::advance() {
  value_.fetch_add(1, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) > 0) futex(value_, FUTEX_WAKE, INT32_MAX);
}

Pool::Pool(int threads) : threads_(threads) { start(); }

void Pool::start() {
  owner_ = getpid();
  spins_ = threads_ <= usable_cores() ? kSpins : 0;  // more threads than cores: whoever spins is in the way
  workers_.clear();
  seats_.resize(threads_);
  workers_.reserve(threads_);
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // signals stay with the threads of the program
  int failed = 0;
  for (int thread = 1; thread < threads_ && !failed; ++thread) {
    seats_[thread] = {this, thread};
    const auto serve_seat = [](void* seat) -> void* {
      static_cast<Seat*>(seat)->pool->serve(static_cast<Seat*>(seat)->thread);
      return nullptr;
    };
    pthread_t worker;
    failed = pthread_create(&worker, nullptr, serve_seat, &seats_[thread]);
    if (!failed) workers_.push_back(worker);
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (failed) {
    stop();
    throw std::system_error(failed, std::generic_category(), "cannot start a thread");
  }
}

void Pool::stop() {
  stopping_ = true;
  start_.advance();
  for (pthread_t worker : workers_) pthread_join(worker, nullptr);
}

Pool::~Pool() {
  if (owner_ == getpid()) stop();  // in a forked child the workers are the parent's
}

bool Pool::revive() {
  if (owner_ == getpid()) return false;
  new (&start_) Signal;
  new (&phase_) Signal;
  arrived_.store(0);
  start();
  return true;
}

void Pool::run(Work work, void* context) {
  work_ = work;
  context_ = context;
  if (threads_ > 1) start_.advance();
  work(context, 0);
  barrier();
}

void Pool::serve(int thread) {
  for (uint32_t seen = 0;; ++seen) {
    start_.wait_while(seen, spins_);
    if (stopping_) return;
    work_(context_, thread);
    barrier();
  }
}

void Pool::barrier() {
  if (threads_ == 1) return;
  const uint32_t phase = phase_.now();
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads_) {
    arrived_.store(0, std::memory_order_relaxed);
    phase_.advance();
  } else {
    phase_.wait_while(phase, spins_);
  }
}

}  // namespace hearth
