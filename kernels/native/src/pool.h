// Threads of one engine. A loop is divided among them task by task; what a task computes never depends on who runs it,
// so results are the same for every number of threads.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace alice {

class Pool {
 public:
  // `threads` counts the caller of `run`. Throws std::system_error when the system has no thread left.
  explicit Pool(int threads) {
    try {
      for (int i = 1; i < threads; i++) helpers_.emplace_back([this, i] { help(i); });
    } catch (...) {
      end();
      throw;
    }
  }

  ~Pool() { end(); }

  int threads() const { return int(helpers_.size()) + 1; }

  // Calls `body(task, thread)` for each task in [0, tasks), and returns when all are done. One caller at a time. Throws
  // what a task throws.
  void run(int64_t tasks, const std::function<void(int64_t, int)>& body) {
    if (helpers_.empty() || tasks <= 1) {
      for (int64_t task = 0; task < tasks; task++) body(task, 0);
      return;
    }
    body_ = &body;
    tasks_ = tasks;
    next_.store(0);
    running_.store(int(helpers_.size()));
    {
      std::lock_guard<std::mutex> lock(mutex_);
      generation_.fetch_add(1);
    }
    wake_.notify_all();
    work(0);
    await(done_, [&] { return running_.load() == 0; });
    if (failure_ != nullptr) std::rethrow_exception(std::exchange(failure_, nullptr));
  }

 private:
#ifndef ALICE_SPINS
#define ALICE_SPINS 20000
#endif
  static constexpr int kSpins = ALICE_SPINS;

  // Looks for a while, then sleeps until told.
  template <class Condition>
  void await(std::condition_variable& told, const Condition& condition) {
    for (int spins = 0; spins < kSpins; spins++) {
      if (condition()) return;
      pause();
    }
    std::unique_lock<std::mutex> lock(mutex_);
    told.wait(lock, condition);
  }

  void end() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      ending_ = true;
      generation_.fetch_add(1);
    }
    wake_.notify_all();
    for (auto& helper : helpers_) helper.join();
  }

  void work(int thread) {
    try {
      for (int64_t task; (task = next_.fetch_add(1)) < tasks_;) (*body_)(task, thread);
    } catch (...) {
      std::lock_guard<std::mutex> lock(mutex_);
      failure_ = std::current_exception();
    }
  }

  void help(int thread) {
    uint64_t seen = 0;
    for (;;) {
      await(wake_, [&] { return generation_.load() != seen; });
      seen = generation_.load();
      if (ending_) return;
      work(thread);
      if (running_.fetch_sub(1) > 1) continue;
      // Under the lock, or the caller could look before and sleep after.
      { std::lock_guard<std::mutex> lock(mutex_); }
      done_.notify_one();
    }
  }

  static void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }

  std::vector<std::thread> helpers_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::atomic<uint64_t> generation_{0};
  bool ending_ = false;
  const std::function<void(int64_t, int)>* body_ = nullptr;
  int64_t tasks_ = 0;
  std::atomic<int64_t> next_{0};
  std::atomic<int> running_{0};
  std::exception_ptr failure_;
};

}  // namespace alice
