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
  // what a task throws. Waits for tasks that were begun, not for threads: on a busy machine one may be long in coming.
  void run(int64_t tasks, const std::function<void(int64_t, int)>& body) {
    if (helpers_.empty() || tasks <= 1) {
      for (int64_t task = 0; task < tasks; task++) body(task, 0);
      return;
    }
    body_ = &body;
    tasks_ = tasks;
    pending_.store(tasks);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      open_.store((uint64_t(++loops_) << 32) + uint64_t(tasks));
    }
    wake_.notify_all();
    work(0);
    await(done_, [&] { return pending_.load() == 0; });
    if (failure_ != nullptr) std::rethrow_exception(std::exchange(failure_, nullptr));
  }

 private:
  // Long enough for the gaps between loops of one pass, some 0.1 ms; a thread on a busy machine then leaves its core.
  static constexpr int kSpins = 4000;

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
      ending_.store(true);
    }
    wake_.notify_all();
    for (auto& helper : helpers_) helper.join();
  }

  static bool any(uint64_t open) { return uint32_t(open) > 0; }

  // Takes tasks while there are any. Until what was taken is done the caller of `run` waits: its loop cannot change.
  void work(int thread) {
    int64_t done = 0;
    for (uint64_t open = open_.load(); any(open);) {
      if (!open_.compare_exchange_weak(open, open - 1)) continue;
      try {
        (*body_)(tasks_ - int64_t(uint32_t(open)), thread);
      } catch (...) {
        std::lock_guard<std::mutex> lock(mutex_);
        failure_ = std::current_exception();
      }
      done++;
      open = open_.load();
    }
    if (done == 0 || pending_.fetch_sub(done) > done || thread == 0) return;
    // Under the lock, or the caller could look before and sleep after.
    { std::lock_guard<std::mutex> lock(mutex_); }
    done_.notify_one();
  }

  void help(int thread) {
    for (;;) {
      await(wake_, [&] { return any(open_.load()) || ending_.load(); });
      if (ending_.load()) return;
      work(thread);
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
  std::atomic<bool> ending_{false};
  // Of the current loop: its number, so that none is taken for another, and below that how many tasks nobody took yet.
  std::atomic<uint64_t> open_{0};
  uint32_t loops_ = 0;
  // Tasks that are not done.
  std::atomic<int64_t> pending_{0};
  const std::function<void(int64_t, int)>* body_ = nullptr;
  int64_t tasks_ = 0;
  std::exception_ptr failure_;
};

}  // namespace alice
