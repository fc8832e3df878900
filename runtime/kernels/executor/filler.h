// A thread that maps what the page cache holds of a mapped file, until the memory is needed.
#pragma once

#include <pthread.h>
#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <span>

namespace hearth {

class Filler {
 public:
  ~Filler();
  // Begins, once: `mapped` is read-only memory of a file whose state in the page cache this process may see.
  // What is not cached stays unread.
  void start(std::span<const std::byte> mapped);
  // Soon ends it.
  void stop() { stopping_.store(true, std::memory_order_relaxed); }

 private:
  void fill() const;

  std::span<const std::byte> mapped_;
  std::atomic<bool> stopping_{false};
  pid_t owner_ = 0;  // of the thread; 0: none
  pthread_t thread_{};
};

}  // namespace hearth
