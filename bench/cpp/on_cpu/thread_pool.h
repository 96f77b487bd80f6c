// Threads for aircache::Parallel, without torch: they stay alive between calls, as torch's do.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "aircache/parallel.h"

namespace aircache::bench {

class ThreadPool {
 public:
  /// `workers` counts the calling thread.
  explicit ThreadPool(int workers) : workers_(workers) {
    for (int worker = 1; worker < workers; ++worker) {
      threads_.emplace_back([this, worker] { serve(worker); });
    }
  }

  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  ~ThreadPool() {
    body_ = nullptr;
    publish();
    for (std::thread& thread : threads_) {
      thread.join();
    }
  }

  Parallel parallel() {
    return {.workers = workers_,
            .run = [this](int64_t tasks, const Parallel::Body& body) { run(tasks, body); }};
  }

 private:
  void run(int64_t tasks, const Parallel::Body& body) {
    body_ = &body;
    tasks_ = tasks;
    next_.store(0);
    busy_.store(workers_ - 1);
    publish();
    take_tasks(0);
    // Whoever is still on its last task is nearly done: sleeping would cost more than it saves.
    while (busy_.load() != 0) {
      std::this_thread::yield();
    }
  }

  void publish() {
    generation_.fetch_add(1);
    generation_.notify_all();
  }

  void take_tasks(int worker) {
    for (int64_t task; (task = next_.fetch_add(1)) < tasks_;) {
      (*body_)(task, worker);
    }
  }

  void serve(int worker) {
    for (uint64_t seen = 0;;) {
      // Waking a sleeping thread takes longer than the small ops do; look around before sleeping.
      for (int spin = 0; spin < kSpins && generation_.load() == seen; ++spin) {
      }
      generation_.wait(seen);
      seen = generation_.load();
      if (body_ == nullptr) {
        return;
      }
      take_tasks(worker);
      busy_.fetch_sub(1);
    }
  }

  static constexpr int kSpins = 20000;

  const int workers_;
  std::vector<std::thread> threads_;
  std::atomic<uint64_t> generation_{0};
  std::atomic<int64_t> next_{0};
  std::atomic<int> busy_{0};
  const Parallel::Body* body_ = nullptr;  // published by generation_, as is tasks_
  int64_t tasks_ = 0;
};

}  // namespace aircache::bench
