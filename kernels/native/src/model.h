// The Alice transformer (kernels/model/block.ts, head.ts): losses of sequences and their gradient, with all weights in one
// vector, or part by part with weights and gradients anywhere. The residual stream, norms, softmax and all sums are
// float32; T is what matrix products take.
#pragma once
#include "block.h"
#include "head.h"

namespace alice {

// `batch` is the most sequences of a call. `tokens` are sequences x (context + 1) ids in range.
class Model {
 public:
  virtual ~Model() = default;
  // Cross-entropy of each row in nats.
  virtual void losses(const float* weights, const int32_t* tokens, int64_t sequences, float* rowLosses) = 0;
  // And the gradient of `rowWeight` times their sum, written into or added to `gradient`.
  virtual void train(const float* weights, const int32_t* tokens, int64_t sequences, float rowWeight, float* gradient,
                     bool accumulate, float* rowLosses) = 0;
  // One block forward, y = block(x) over whole sequences, with weights wherever they lie.
  virtual void block(const BlockWeights& weights, const float* x, float* y, int64_t sequences) = 0;
  // The same again, and backward: turns `dStream`, the gradient of y, into that of x.
  virtual void blockBackward(const BlockWeights& weights, const float* x, float* dStream, float* gradient,
                             bool accumulate, int64_t sequences) = 0;
  // Cross-entropy of rows under a final norm and a head.
  virtual void headLosses(const float* norm, const float* head, const float* x, const int32_t* targets, int64_t rows,
                          float* rowLosses) = 0;
  // The steps of a head whose vocabulary comes in parts: see head.h.
  virtual void headBegin(const int32_t* targets, int64_t rows, bool gradient) = 0;
  virtual void headForward(const HeadPart& part, const float* norm, const float* x, int64_t first, int64_t rows) = 0;
  virtual void headFinish(float rowWeight, int64_t rows, float* rowLosses) = 0;
  virtual void headBackward(const HeadPart& part, const float* norm, const float* x, int64_t first, int64_t rows,
                            float* dNormalized, float* gradient, bool accumulate) = 0;
  virtual void headEnd(const float* norm, const float* x, int64_t rows, float* dStream, float* dNorm,
                       bool accumulate) = 0;
  // As secondsOfProducts (gemm.h), in the precision of this model.
  virtual double products(int64_t size, int64_t repeats) = 0;
  virtual PhaseClock& clock() = 0;
};

template <class T>
class ModelOf final : public Model {
  template <class>
  friend class Differences;

 public:
  ModelOf(const Shape& shape, Pool& pool)
      : s_(shape), at_(shape), work_(shape, pool), block_(work_), head_(work_), kept_(shape.recompute ? 1 : shape.layers) {}

  void losses(const float* weights, const int32_t* tokens, int64_t sequences, float* rowLosses) override {
    begin(weights, tokens, sequences);
    float* x = streamOf(0);
    embed(x);
    for (int64_t layer = 0; layer < s_.layers; layer++) block(blockWeights(layer), x, x, sequences);
    headLosses(weights + at_.norm, weights + at_.head, x, targets_.data(), rows_, rowLosses);
  }

  double products(int64_t size, int64_t repeats) override { return secondsOfProducts<T>(work_.pool, size, repeats); }
  PhaseClock& clock() override { return work_.clock; }

  void train(const float* weights, const int32_t* tokens, int64_t sequences, float rowWeight, float* gradient,
             bool accumulate, float* rowLosses) override {
    begin(weights, tokens, sequences);
    embed(streamOf(0));
    for (int64_t layer = 0; layer < s_.layers; layer++)
      block_.forward(blockWeights(layer), streamOf(layer), streamOf(layer + 1), sequences, kept(layer));
    float* dStream = work_.reserveRows(dStream_, s_.hidden);
    trainHead(streamOf(s_.layers), rowWeight, dStream, gradient, accumulate, rowLosses);
    for (int64_t layer = s_.layers - 1; layer >= 0; layer--) {
      // The last block's forward pass was the last one.
      const bool again = s_.recompute && layer < s_.layers - 1;
      if (again) block_.forward(blockWeights(layer), streamOf(layer), nullptr, sequences, kept(layer));
      block_.backward(blockWeights(layer), streamOf(layer), kept(layer), dStream,
                      gradient + at_.block0 + layer * at_.blockLength, accumulate, sequences);
    }
    embedBackward(gradient, accumulate);
  }

  void block(const BlockWeights& weights, const float* x, float* y, int64_t sequences) override {
    block_.forward(weights, x, y, sequences, kept_[0]);
  }

  void blockBackward(const BlockWeights& weights, const float* x, float* dStream, float* gradient, bool accumulate,
                     int64_t sequences) override {
    block_.forward(weights, x, nullptr, sequences, kept_[0]);
    block_.backward(weights, x, kept_[0], dStream, gradient, accumulate, sequences);
  }

  void headLosses(const float* norm, const float* head, const float* x, const int32_t* targets, int64_t rows,
                  float* rowLosses) override {
    head_.begin(targets, rows, false);
    head_.forward({head, 0, s_.vocabulary}, norm, x, 0, rows);
    head_.finish(0, rows, rowLosses);
  }

  void headBegin(const int32_t* targets, int64_t rows, bool gradient) override { head_.begin(targets, rows, gradient); }
  void headForward(const HeadPart& part, const float* norm, const float* x, int64_t first, int64_t rows) override {
    head_.forward(part, norm, x, first, rows);
  }
  void headFinish(float rowWeight, int64_t rows, float* rowLosses) override { head_.finish(rowWeight, rows, rowLosses); }
  void headBackward(const HeadPart& part, const float* norm, const float* x, int64_t first, int64_t rows,
                    float* dNormalized, float* gradient, bool accumulate) override {
    head_.backward(part, norm, x, first, rows, dNormalized, gradient, accumulate);
  }
  void headEnd(const float* norm, const float* x, int64_t rows, float* dStream, float* dNorm, bool accumulate) override {
    head_.end(norm, x, rows, dStream, dNorm, accumulate);
  }

 private:
  void begin(const float* weights, const int32_t* tokens, int64_t sequences) {
    weights_ = weights;
    rows_ = sequences * s_.context;
    int32_t *inputs = inputs_.reserve(s_.batch * s_.context), *targets = targets_.reserve(s_.batch * s_.context);
    for (int64_t sequence = 0; sequence < sequences; sequence++, tokens += s_.context + 1) {
      std::copy_n(tokens, s_.context, inputs + sequence * s_.context);
      std::copy_n(tokens + 1, s_.context, targets + sequence * s_.context);
    }
  }

  BlockWeights blockWeights(int64_t layer) const {
    return {weights_ + at_.block0 + layer * at_.blockLength, at_.block};
  }
  int32_t input(int64_t row) const { return inputs_.data()[row]; }
  typename Block<T>::Kept& kept(int64_t layer) { return kept_[size_t(s_.recompute ? 0 : layer)]; }
  float* streamOf(int64_t layer) {
    while (int64_t(streams_.size()) <= layer) streams_.push_back(std::make_unique<Buffer<float>>());
    return work_.reserveRows(*streams_[size_t(layer)], s_.hidden);
  }

  void embed(float* x) {
    const PhaseScope phase(work_.clock, Phase::embedding);
    work_.forRows(rows_, [&](int64_t row) {
      std::copy_n(weights_ + at_.embedding + input(row) * s_.hidden, s_.hidden, x + row * s_.hidden);
    });
  }

  // Adds each row's gradient to its token's, by columns: rows of one token add up in their order.
  void embedBackward(float* gradient, bool accumulate) {
    const PhaseScope phase(work_.clock, Phase::embedding);
    float* table = gradient + at_.embedding;
    if (!s_.tied && !accumulate)
      work_.pool.run(s_.vocabulary,
                     [&](int64_t token, int) { std::fill_n(table + token * s_.hidden, s_.hidden, 0.0f); });
    constexpr int64_t columns = 128;
    const float* dx = dStream_.data();
    work_.pool.run(ceilDivide(s_.hidden, columns), [&](int64_t task, int) {
      const int64_t first = task * columns, end = std::min(s_.hidden, first + columns);
      for (int64_t row = 0; row < rows_; row++) {
        float* to = table + input(row) * s_.hidden;
        for (int64_t i = first; i < end; i++) to[i] += dx[row * s_.hidden + i];
      }
    });
  }

  // Some rows through all of the head, then the next: probabilities are computed once.
  void trainHead(const float* x, float rowWeight, float* dStream, float* gradient, bool accumulate, float* rowLosses) {
    const float* norm = weights_ + at_.norm;
    const HeadPart whole{weights_ + at_.head, 0, s_.vocabulary};
    for (int64_t first = 0, chunk = head_.chunkRows(); first < rows_; first += chunk) {
      const int64_t rows = std::min(chunk, rows_ - first), at = first * s_.hidden;
      const bool add = accumulate || first > 0;
      head_.begin(targets_.data() + first, rows, true);
      head_.forward(whole, norm, x + at, 0, rows);
      head_.finish(rowWeight, rows, rowLosses + first);
      head_.backward(whole, norm, x + at, 0, rows, dStream + at, gradient + at_.head, add);
      head_.end(norm, x + at, rows, dStream + at, gradient + at_.norm, add);
    }
  }

  const Shape s_;
  const Layout at_;
  Work<T> work_;
  Block<T> block_;
  Head<T> head_;
  const float* weights_ = nullptr;
  int64_t rows_ = 0;
  Buffer<int32_t> inputs_, targets_;
  // The residual stream before each block and behind the last.
  std::vector<std::unique_ptr<Buffer<float>>> streams_;
  std::vector<typename Block<T>::Kept> kept_;
  Buffer<float> dStream_;
};

}  // namespace alice
