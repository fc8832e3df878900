// Threads, futexes and the barrier.
#include "executor/pool.h"

#include <linux/futex.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <new>
#include <system_error>

namespace hearth {
namespace {

// Pause instructions, about 15 ns each: up to 1 ms where the others are computing, 0.4 ms for the next run, which is
// what choosing a token takes.
constexpr int kInsideSpins = 60'000, kBetweenSpins = 24'000, kFewestSpins = 60;
constexpr int64_t kSpin_ns = 15;

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

}  // namespace

// A sleep that a full spin would have spared asks for more spinning, a longer one for much less.
void Patience::after_sleep(int64_t waited_ns) {
  const int wanted = waited_ns < most * kSpin_ns ? spins * 2 : spins / 4;
  spins = std::clamp(wanted, std::min(kFewestSpins, most), most);
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
  const cpu_set_t cores = allowed_cores();
  const bool spin = threads_ <= CPU_COUNT(&cores);  // too few cores: whoever spins is in the way
  const int inside = spin ? kInsideSpins : 0, between = spin ? kBetweenSpins : 0;
  workers_.clear();
  seats_.clear();
  for (int thread = 0; thread < threads_; ++thread) seats_.push_back({this, thread, {inside, inside}, {between, between}, cores});
  workers_.reserve(threads_);
  sigset_t all, before;
  sigfillset(&all);
  for (int fault : {SIGILL, SIGSEGV, SIGBUS, SIGFPE}) sigdelset(&all, fault);  // theirs: blocked, no handler hears of them
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

void Pool::run(Work work, void* context, const Placement& placement, Whereabouts* notes) {
  callers_ = allowed_cores();
  places_ = applies(placement, callers_) ? placement.cores.data() : nullptr;
  const Stay stay(places_, callers_);
  work_ = work;
  context_ = context;
  notes_ = notes;
  if (threads_ > 1) start_.advance();
  work(context, 0);
  notes[0].note();
  barrier(0);
}

// Each run places the workers; the kernel is asked only where something changes.
void Pool::settle(Seat& seat) const {
  const cpu_set_t& wanted = places_ ? places_[seat.thread] : callers_;
  if (CPU_EQUAL(&wanted, &seat.cores) || CPU_COUNT(&wanted) == 0) return;
  sched_setaffinity(0, sizeof wanted, &wanted);
  seat.cores = wanted;
}

void Pool::serve(int thread) {
  for (uint32_t seen = 0;; ++seen) {
    start_.wait_while(seen, seats_[thread].between);
    if (stopping_) return;
    settle(seats_[thread]);
    work_(context_, thread);
    notes_[thread].note();
    barrier(thread);
  }
}

// Whoever comes last lets the others go on.
bool Pool::last_to_arrive() {
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 < threads_) return false;
  arrived_.store(0, std::memory_order_relaxed);
  phase_.advance();
  return true;
}

}  // namespace hearth
