// Several pools at work at once, made and ended meanwhile, each phase reading what the one before wrote: built with
// ThreadSanitizer by tests/runtime/test_pool_race.py. Ends with 1 where a thread read what another had not written yet.
#include <atomic>
#include <cstdio>
#include <numeric>
#include <thread>
#include <vector>

#include "executor/pool.h"

namespace {

constexpr int kThreads = 3, kPhases = 8, kRuns = 40, kCallers = 3;

struct Job {
  hearth::Pool& pool;
  std::vector<long> written = std::vector<long>(kThreads);  // plain memory: only the barrier orders it
  std::atomic<int> wrong{0};
};

void work(void* context, int thread) {
  Job& job = *static_cast<Job*>(context);
  for (long phase = 1; phase <= kPhases; ++phase) {
    job.written[thread] = phase * (thread + 1);
    job.pool.barrier(thread);
    const long sum = std::accumulate(job.written.begin(), job.written.end(), 0L);
    if (sum != phase * kThreads * (kThreads + 1) / 2) ++job.wrong;
    job.pool.barrier(thread);
  }
}

int serve() {
  int wrong = 0;
  for (int round = 0; round < 4; ++round) {
    hearth::Pool pool(kThreads);
    std::vector<hearth::Whereabouts> notes(kThreads);
    Job job{pool};
    for (int run = 0; run < kRuns; ++run) pool.run(work, &job, {}, notes.data());
    wrong += job.wrong;
  }
  return wrong;
}

}  // namespace

int main() {
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < kCallers; ++i) callers.emplace_back([&] { wrong += serve(); });
  for (std::thread& caller : callers) caller.join();
  std::printf("%d wrong\n", wrong.load());
  return wrong.load() != 0;
}
