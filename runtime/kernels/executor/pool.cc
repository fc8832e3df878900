// Threads, futexes and the barrier.
#include "executor/pool.h"

#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <new>
#include <system_error>

namespace hearth {
namespace {

constexpr int kMostSpins = 2000, kFewestSpins = 60;  // pause instructions, about 15 ns each
constexpr int64_t kWorthSpinning_ns = 30'000;

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

int64_t now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * int64_t{1'000'000'000} + t.tv_nsec;
}

int usable_cores() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

}  // namespace

// A sleep that a full spin would have spared asks for more spinning, a longer one for much less.
void Patience::after_sleep(int64_t waited_ns) {
  spins = waited_ns < kWorthSpinning_ns ? spins * 2 : spins / 4;
  spins = spins > most ? most : spins < kFewestSpins && most ? kFewestSpins : spins;
}

void Signal::wait_while(uint32_t old, Patience& patience) {
  for (int i = 0; i < patience.spins; ++i) {
    if (now() != old) return;
    relax();
  }
  const int64_t start = now_ns();
  // Either advance() sees this sleeper, or the futex call sees the advanced value.
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  while (value_.load(std::memory_order_seq_cst) == old) futex(value_, FUTEX_WAIT, old);
  sleepers_.fetch_sub(1, std::memory_order_relaxed);
  patience.after_sleep(now_ns() - start);
}

void Signal::advance() {
  value_.fetch_add(1, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) > 0) futex(value_, FUTEX_WAKE, INT32_MAX);
}

Pool::Pool(int threads) : threads_(threads) { start(); }

void Pool::start() {
  owner_ = getpid();
  const int spins = threads_ <= usable_cores() ? kMostSpins : 0;  // too few cores: whoever spins is in the way
  workers_.clear();
  seats_.clear();
  for (int thread = 0; thread < threads_; ++thread) seats_.push_back({this, thread, {spins, spins}, {spins, spins}});
  workers_.reserve(threads_);
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // signals stay with the threads of the program
  int failed = 0;
  for (int thread = 1; thread < threads_ && !failed; ++thread) {
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
  barrier(0);
}

void Pool::serve(int thread) {
  for (uint32_t seen = 0;; ++seen) {
    start_.wait_while(seen, seats_[thread].between);
    if (stopping_) return;
    work_(context_, thread);
    barrier(thread);
  }
}

void Pool::barrier(int thread) {
  if (threads_ == 1) return;
  const uint32_t phase = phase_.now();
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads_) {
    arrived_.store(0, std::memory_order_relaxed);
    phase_.advance();
  } else {
    phase_.wait_while(phase, seats_[thread].inside);
  }
}

}  // namespace hearth
