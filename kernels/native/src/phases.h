// Where an engine's time goes, by phase of a training step. Always on: a step reads the clock a few dozen times.
#pragma once
#include <algorithm>
#include <chrono>
#include <utility>

namespace alice {

enum class Phase {
  embedding,
  blocksForward,
  attentionForward,
  headForward,
  headBackward,
  blocksBackward,
  attentionBackward,
  optimizer,
  outside
};

constexpr int kPhases = int(Phase::outside);
constexpr const char* kPhaseNames[kPhases] = {"embedding",     "blocks_forward",  "attention_forward",  "head_forward",
                                              "head_backward", "blocks_backward", "attention_backward", "optimizer"};

// Charges time to one phase at a time.
class PhaseClock {
 public:
  // Time from here on is the given phase's. Returns the phase before.
  Phase enter(Phase phase) {
    const auto now = std::chrono::steady_clock::now();
    seconds_[int(current_)] += std::chrono::duration<double>(now - since_).count();
    since_ = now;
    return std::exchange(current_, phase);
  }

  double seconds(Phase phase) const { return seconds_[int(phase)]; }
  void reset() { std::fill_n(seconds_, kPhases + 1, 0.0); }

 private:
  double seconds_[kPhases + 1] = {};
  Phase current_ = Phase::outside;
  std::chrono::steady_clock::time_point since_ = std::chrono::steady_clock::now();
};

// A scope whose time is a phase's, but for that of scopes inside it.
class PhaseScope {
 public:
  PhaseScope(PhaseClock& clock, Phase phase) : clock_(clock), outer_(clock.enter(phase)) {}
  ~PhaseScope() { clock_.enter(outer_); }
  PhaseScope(const PhaseScope&) = delete;
  PhaseScope& operator=(const PhaseScope&) = delete;

 private:
  PhaseClock& clock_;
  const Phase outer_;
};

}  // namespace alice
