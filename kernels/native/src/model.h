// The Alice transformer (kernels/model/block.ts, head.ts): losses of sequences and their gradient. The residual stream,
// norms, softmax and all sums are float32; T is what matrix products take.
#pragma once
#include <memory>

#include "attention.h"
#include "phases.h"

namespace alice {

// As kernels/model/preset.ts; checked by the addon.
struct Shape {
  int64_t vocabulary, hidden, layers, queryHeads, keyValueHeads, ffn, context, batch;
  double ropeTheta, epsilon;
  bool tied;
  // Recompute each block in the backward pass instead of keeping its activations.
  bool recompute;
  // Most bytes of probabilities over the vocabulary at once.
  int64_t headBytes;
};

// Offsets of tensors in the flat vector, in canonical order (kernels/model/layout.ts).
struct Layout {
  struct Block {
    int64_t attentionNorm, query, output, ffnNorm, gate, down;
  };
  int64_t embedding = 0, block0, blockLength, norm, head, length;
  int64_t headWidth, queryKeyValue;
  Block block;

  explicit Layout(const Shape& s) {
    headWidth = s.hidden / s.queryHeads;
    queryKeyValue = s.hidden + 2 * s.keyValueHeads * headWidth;
    block.attentionNorm = 0;
    block.query = s.hidden;  // key and value follow
    block.output = block.query + queryKeyValue * s.hidden;
    block.ffnNorm = block.output + s.hidden * s.hidden;
    block.gate = block.ffnNorm + s.hidden;  // up follows
    block.down = block.gate + 2 * s.ffn * s.hidden;
    blockLength = block.down + s.hidden * s.ffn;
    block0 = s.vocabulary * s.hidden;
    norm = block0 + s.layers * blockLength;
    head = s.tied ? embedding : norm + s.hidden;
    length = norm + s.hidden + (s.tied ? 0 : s.vocabulary * s.hidden);
  }
};

// One pass over the model for up to `batch` sequences. `tokens` are sequences x (context + 1) ids in range.
class Model {
 public:
  virtual ~Model() = default;
  // Cross-entropy of each row in nats.
  virtual void losses(const float* weights, const int32_t* tokens, int64_t sequences, float* rowLosses) = 0;
  // And the gradient of `rowWeight` times their sum, written into or added to `gradient`.
  virtual void train(const float* weights, const int32_t* tokens, int64_t sequences, float rowWeight, float* gradient,
                     bool accumulate, float* rowLosses) = 0;
  // One block forward, y = block(x) over whole sequences, with weights wherever they lie.
  virtual void block(const float* blockWeights, const float* x, float* y, int64_t sequences) = 0;
  // Cross-entropy of rows under a final norm and a head.
  virtual void headLosses(const float* norm, const float* head, const float* x, const int32_t* targets, int64_t rows,
                          float* rowLosses) = 0;
  // As secondsOfProducts (gemm.h), in the precision of this model.
  virtual double products(int64_t size, int64_t repeats) = 0;

  PhaseClock clock;
};

template <class T>
class ModelOf final : public Model {
 public:
  ModelOf(const Shape& shape, Pool& pool) : s_(shape), at_(shape), pool_(pool), kept_(shape.recompute ? 1 : shape.layers) {
    const int64_t half = at_.headWidth / 2;
    float *cosine = cosine_.reserve(s_.context * half), *sine = sine_.reserve(s_.context * half);
    for (int64_t position = 0; position < s_.context; position++)
      for (int64_t pair = 0; pair < half; pair++) {
        const double angle = double(position) * std::pow(s_.ropeTheta, -double(pair) / double(half));
        cosine[position * half + pair] = float(std::cos(angle));
        sine[position * half + pair] = float(std::sin(angle));
      }
    attention_ = std::make_unique<Attention<T>[]>(size_t(pool.threads()));
    headTiles_ = std::make_unique<Buffer<float>[]>(size_t(pool.threads()));
  }

  void losses(const float* weights, const int32_t* tokens, int64_t sequences, float* rowLosses) override {
    begin(weights, tokens, sequences);
    float* x = streamOf(0);
    embed(x);
    for (int64_t layer = 0; layer < s_.layers; layer++) forwardBlock(blockWeights(layer), x, x, kept_[0]);
    head(x, 0, nullptr, false, rowLosses);
  }

  void block(const float* blockWeights, const float* x, float* y, int64_t sequences) override {
    sequences_ = sequences;
    rows_ = sequences * s_.context;
    forwardBlock(blockWeights, x, y, kept_[0]);
  }

  void headLosses(const float* norm, const float* headWeights, const float* x, const int32_t* targets, int64_t rows,
                  float* rowLosses) override {
    norm_ = norm;
    head_ = headWeights;
    rows_ = rows;
    std::copy_n(targets, rows, targets_.reserve(s_.batch * s_.context));
    head(x, 0, nullptr, false, rowLosses);
  }

  double products(int64_t size, int64_t repeats) override { return secondsOfProducts<T>(pool_, size, repeats); }

  void train(const float* weights, const int32_t* tokens, int64_t sequences, float rowWeight, float* gradient,
             bool accumulate, float* rowLosses) override {
    begin(weights, tokens, sequences);
    embed(streamOf(0));
    for (int64_t layer = 0; layer < s_.layers; layer++)
      forwardBlock(blockWeights(layer), streamOf(layer), streamOf(layer + 1), kept(layer));
    head(streamOf(s_.layers), rowWeight, gradient, accumulate, rowLosses);
    for (int64_t layer = s_.layers - 1; layer >= 0; layer--) {
      // The stream behind a block is not needed any more: it serves as the output of the recomputation.
      if (s_.recompute) forwardBlock(blockWeights(layer), streamOf(layer), streamOf(layer + 1), kept(layer));
      backwardBlock(layer, streamOf(layer), kept(layer), gradient + at_.block0 + layer * at_.blockLength, accumulate);
    }
    embedBackward(gradient, accumulate);
  }

 private:
  // What a block's backward pass needs of its forward pass, besides its input.
  struct Kept {
    Buffer<float> middle, queryKeyValue, context, gateUp, logSums;
  };

  static constexpr int64_t kRowsPerTask = 32;
  // Columns of the head that go through the caches together, and those that share a running maximum.
  static constexpr int64_t kHeadBlock = 2048;
  static constexpr int64_t kHeadTile = 8 * kTileColumns;

  void begin(const float* weights, const int32_t* tokens, int64_t sequences) {
    weights_ = weights;
    norm_ = weights + at_.norm;
    head_ = weights + at_.head;
    sequences_ = sequences;
    rows_ = sequences * s_.context;
    int32_t *inputs = inputs_.reserve(s_.batch * s_.context), *targets = targets_.reserve(s_.batch * s_.context);
    for (int64_t sequence = 0; sequence < sequences; sequence++, tokens += s_.context + 1) {
      std::copy_n(tokens, s_.context, inputs + sequence * s_.context);
      std::copy_n(tokens + 1, s_.context, targets + sequence * s_.context);
    }
  }

  const float* blockWeights(int64_t layer) const { return weights_ + at_.block0 + layer * at_.blockLength; }
  int32_t input(int64_t row) const { return inputs_.data()[row]; }
  int32_t target(int64_t row) const { return targets_.data()[row]; }
  Kept& kept(int64_t layer) { return kept_[size_t(s_.recompute ? 0 : layer)]; }
  float* streamOf(int64_t layer) {
    while (int64_t(streams_.size()) <= layer) streams_.push_back(std::make_unique<Buffer<float>>());
    return streams_[size_t(layer)]->reserve(s_.batch * s_.context * s_.hidden);
  }
  float* reserveRows(Buffer<float>& buffer, int64_t width) { return buffer.reserve(s_.batch * s_.context * width); }

  // Calls `body(row)` for all rows of a range.
  template <class Body>
  void forRows(int64_t rows, const Body& body) {
    pool_.run(ceilDivide(rows, kRowsPerTask), [&](int64_t task, int) {
      for (int64_t row = task * kRowsPerTask; row < std::min(rows, (task + 1) * kRowsPerTask); row++) body(row);
    });
  }

  // C [rows, columns] = left right
  template <class A, class B>
  void product(const Operand<A>& left, const Operand<B>& right, int64_t rows, int64_t columns, int64_t reduced, float* c,
               bool accumulate) {
    const auto [a, b] = packBoth(pool_, left_, left, right_, right, rows, columns, reduced);
    multiply(pool_, a, b, rows, columns, reduced, c, columns, accumulate);
  }

  void embed(float* x) {
    const PhaseScope phase(clock, Phase::embedding);
    forRows(rows_, [&](int64_t row) {
      std::copy_n(weights_ + at_.embedding + input(row) * s_.hidden, s_.hidden, x + row * s_.hidden);
    });
  }

  // Adds each row's gradient to its token's, by columns: rows of one token add up in their order.
  void embedBackward(float* gradient, bool accumulate) {
    const PhaseScope phase(clock, Phase::embedding);
    float* table = gradient + at_.embedding;
    if (!s_.tied && !accumulate)
      pool_.run(s_.vocabulary, [&](int64_t token, int) { std::fill_n(table + token * s_.hidden, s_.hidden, 0.0f); });
    constexpr int64_t columns = 128;
    const float* dx = dStream_.data();
    pool_.run(ceilDivide(s_.hidden, columns), [&](int64_t task, int) {
      const int64_t first = task * columns, end = std::min(s_.hidden, first + columns);
      for (int64_t row = 0; row < rows_; row++) {
        float* to = table + input(row) * s_.hidden;
        for (int64_t i = first; i < end; i++) to[i] += dx[row * s_.hidden + i];
      }
    });
  }

  const float* rmsNorm(const float* x, const float* weight, int64_t rows) {
    float* y = reserveRows(normalized_, s_.hidden);
    forRows(rows, [&](int64_t row) {
      rmsNormRow(x + row * s_.hidden, weight, y + row * s_.hidden, s_.hidden, float(s_.epsilon));
    });
    return y;
  }

  // dx (= or +=) the gradient; the weight's is summed up in fixed groups of rows.
  void rmsNormBackward(const float* x, const float* weight, const float* dy, float* dx, bool addToStream, float* dWeight,
                       bool accumulate, int64_t rows) {
    const int64_t tasks = ceilDivide(rows, kRowsPerTask), width = s_.hidden;
    float* partial = partialSums_.reserve(tasks * width);
    pool_.run(tasks, [&](int64_t task, int) {
      float* dw = partial + task * width;
      std::fill_n(dw, width, 0.0f);
      for (int64_t row = task * kRowsPerTask; row < std::min(rows, (task + 1) * kRowsPerTask); row++)
        rmsNormRowBackward(x + row * width, weight, dy + row * width, dx + row * width, dw, width, float(s_.epsilon),
                           addToStream);
    });
    if (!accumulate) std::fill_n(dWeight, width, 0.0f);
    for (int64_t task = 0; task < tasks; task++)
      for (int64_t i = 0; i < width; i++) dWeight[i] += partial[task * width + i];
  }

  void rotateHeads(float* row, int64_t position, float direction) {
    const int64_t half = at_.headWidth / 2;
    const float scale = 1.0f / std::sqrt(float(at_.headWidth));
    for (int64_t head = 0; head < s_.queryHeads + s_.keyValueHeads; head++)
      rotate(row + head * at_.headWidth, cosine_.data() + position * half, sine_.data() + position * half, half,
             head < s_.queryHeads ? scale : 1.0f, direction);
  }

  HeadView headView(const Kept& kept, int64_t sequence, int64_t head) const {
    const int64_t first = sequence * s_.context, group = s_.queryHeads / s_.keyValueHeads, width = at_.headWidth;
    const float* row = kept.queryKeyValue.data() + first * at_.queryKeyValue;
    const float* key = row + s_.hidden + head / group * width;
    return {s_.context,
            width,
            row + head * width,
            key,
            key + s_.keyValueHeads * width,
            at_.queryKeyValue,
            kept.context.data() + first * s_.hidden + head * width,
            s_.hidden,
            kept.logSums.data() + (sequence * s_.queryHeads + head) * s_.context};
  }

  // `y` may be `x`.
  void forwardBlock(const float* w, const float* x, float* y, Kept& kept) {
    const PhaseScope phase(clock, Phase::blocksForward);
    const auto& at = at_.block;
    const int64_t hidden = s_.hidden, ffn = s_.ffn;
    float* qkv = reserveRows(kept.queryKeyValue, at_.queryKeyValue);
    float* context = reserveRows(kept.context, hidden);
    reserveRows(kept.logSums, s_.queryHeads);
    float* middle = reserveRows(kept.middle, hidden);
    float* gateUp = reserveRows(kept.gateUp, 2 * ffn);

    const float* normalized = rmsNorm(x, w + at.attentionNorm, rows_);
    product(byRows(normalized, hidden), byRows(w + at.query, hidden), rows_, at_.queryKeyValue, hidden, qkv, false);
    forRows(rows_, [&](int64_t row) { rotateHeads(qkv + row * at_.queryKeyValue, row % s_.context, 1); });
    clock.enter(Phase::attentionForward);
    pool_.run(sequences_ * s_.queryHeads, [&](int64_t task, int thread) {
      attention_[size_t(thread)].forward(headView(kept, task / s_.queryHeads, task % s_.queryHeads));
    });
    clock.enter(Phase::blocksForward);
    forRows(rows_, [&](int64_t row) { std::copy_n(x + row * hidden, hidden, middle + row * hidden); });
    product(byRows<float>(context, hidden), byRows(w + at.output, hidden), rows_, hidden, hidden, middle, true);

    normalized = rmsNorm(middle, w + at.ffnNorm, rows_);
    product(byRows(normalized, hidden), byRows(w + at.gate, hidden), rows_, 2 * ffn, hidden, gateUp, false);
    const float* inner = swiGlu(gateUp);
    forRows(rows_, [&](int64_t row) { std::copy_n(middle + row * hidden, hidden, y + row * hidden); });
    product(byRows(inner, ffn), byRows(w + at.down, ffn), rows_, hidden, ffn, y, true);
  }

  const float* swiGlu(const float* gateUp) {
    float* inner = reserveRows(inner_, s_.ffn);
    forRows(rows_, [&](int64_t row) {
      const float* gate = gateUp + row * 2 * s_.ffn;
      swiGluRow(gate, gate + s_.ffn, inner + row * s_.ffn, s_.ffn);
    });
    return inner;
  }

  // Turns the gradient of the stream behind the block into that before it.
  void backwardBlock(int64_t layer, const float* x, Kept& kept, float* gradient, bool accumulate) {
    const PhaseScope phase(clock, Phase::blocksBackward);
    const float* w = blockWeights(layer);
    const auto& at = at_.block;
    const int64_t hidden = s_.hidden, ffn = s_.ffn, qkvWidth = at_.queryKeyValue;
    float* dStream = dStream_.data();
    float* dNormalized = reserveRows(dNormalized_, hidden);

    const float* gateUp = kept.gateUp.data();
    const float* inner = swiGlu(gateUp);
    product(byColumns<float>(dStream, hidden), byColumns(inner, ffn), hidden, ffn, rows_, gradient + at.down, accumulate);
    float* dInner = reserveRows(inner_, ffn);
    product(byRows<float>(dStream, hidden), byColumns(w + at.down, ffn), rows_, ffn, hidden, dInner, false);
    float* dGateUp = reserveRows(dGateUp_, 2 * ffn);
    forRows(rows_, [&](int64_t row) {
      const float* gate = gateUp + row * 2 * ffn;
      float* dGate = dGateUp + row * 2 * ffn;
      swiGluRowBackward(gate, gate + ffn, dInner + row * ffn, dGate, dGate + ffn, ffn);
    });
    const float* normalized = rmsNorm(kept.middle.data(), w + at.ffnNorm, rows_);
    product(byColumns<float>(dGateUp, 2 * ffn), byColumns(normalized, hidden), 2 * ffn, hidden, rows_,
            gradient + at.gate, accumulate);
    product(byRows<float>(dGateUp, 2 * ffn), byColumns(w + at.gate, hidden), rows_, hidden, 2 * ffn, dNormalized, false);
    rmsNormBackward(kept.middle.data(), w + at.ffnNorm, dNormalized, dStream, true, gradient + at.ffnNorm, accumulate,
                    rows_);

    product(byColumns<float>(dStream, hidden), byColumns<float>(kept.context.data(), hidden), hidden, hidden, rows_,
            gradient + at.output, accumulate);
    float* dContext = dNormalized;
    product(byRows<float>(dStream, hidden), byColumns(w + at.output, hidden), rows_, hidden, hidden, dContext, false);
    const float* dQkv = attentionBackward(kept, dContext);
    normalized = rmsNorm(x, w + at.attentionNorm, rows_);
    product(byColumns(dQkv, qkvWidth), byColumns(normalized, hidden), qkvWidth, hidden, rows_, gradient + at.query,
            accumulate);
    product(byRows(dQkv, qkvWidth), byColumns(w + at.query, hidden), rows_, hidden, qkvWidth, dNormalized, false);
    rmsNormBackward(x, w + at.attentionNorm, dNormalized, dStream, true, gradient + at.attentionNorm, accumulate, rows_);
  }

  const float* attentionBackward(const Kept& kept, const float* dContext) {
    const PhaseScope phase(clock, Phase::attentionBackward);
    const int64_t width = at_.headWidth, hidden = s_.hidden, group = s_.queryHeads / s_.keyValueHeads;
    float* dQkv = reserveRows(dQkv_, at_.queryKeyValue);
    // By query head, [rows, queryHeads, width] twice; those of a group are added up afterwards, in order.
    float* dKeys = reserveRows(dKeys_, hidden);
    float* dValues = reserveRows(dValues_, hidden);
    pool_.run(sequences_ * s_.queryHeads, [&](int64_t task, int thread) {
      const int64_t sequence = task / s_.queryHeads, head = task % s_.queryHeads, first = sequence * s_.context;
      const int64_t at = first * hidden + head * width;
      attention_[size_t(thread)].backward(
          headView(kept, sequence, head), {dContext + at, dQkv + first * at_.queryKeyValue + head * width,
                                           at_.queryKeyValue, dKeys + at, dValues + at, hidden});
    });
    forRows(rows_, [&](int64_t row) {
      float* to = dQkv + row * at_.queryKeyValue;
      for (int64_t head = 0; head < s_.keyValueHeads; head++) {
        float* dKey = to + hidden + head * width;
        float* dValue = dKey + s_.keyValueHeads * width;
        const int64_t from = row * hidden + head * group * width;
        for (int64_t i = 0; i < width; i++) {
          float key = 0, value = 0;
          for (int64_t j = 0; j < group; j++) {
            key += dKeys[from + j * width + i];
            value += dValues[from + j * width + i];
          }
          dKey[i] = key;
          dValue[i] = value;
        }
      }
      rotateHeads(to, row % s_.context, -1);
    });
    return dQkv;
  }

  // Losses of all rows and, with a gradient, that of the stream before the final norm. Rows go through in chunks, whose
  // probabilities are kept relative to the largest logit of each kHeadTile columns until all columns are known.
  void head(const float* x, float rowWeight, float* gradient, bool accumulate, float* rowLosses) {
    const int64_t fit = std::max<int64_t>(1, s_.headBytes / int64_t(s_.vocabulary * sizeof(T)));
    const int64_t chunk = ceilDivide(rows_, ceilDivide(rows_, fit));
    if (gradient != nullptr) reserveRows(dStream_, s_.hidden);
    for (int64_t first = 0; first < rows_; first += chunk)
      headChunk(x, first, std::min(chunk, rows_ - first), rowWeight, gradient, accumulate || first > 0, rowLosses);
  }

  void headChunk(const float* stream, int64_t first, int64_t rows, float rowWeight, float* gradient, bool accumulate,
                 float* rowLosses) {
    const PhaseScope phase(clock, Phase::headForward);
    const int64_t hidden = s_.hidden, vocabulary = s_.vocabulary, tiles = ceilDivide(vocabulary, kHeadTile);
    const float* w = head_;
    const float* x = stream + first * hidden;
    const float* normalized = rmsNorm(x, norm_, rows);
    const Packed<T> left = packLeft(headLeft_, byRows(normalized, hidden), rows, hidden, &pool_);
    T* probabilities = gradient == nullptr ? nullptr : probabilities_.reserve(rows * vocabulary);
    float* maxima = tileMaxima_.reserve(rows * tiles);
    float* sums = tileSums_.reserve(rows * tiles);
    float* targets = targetLogits_.reserve(rows);

    constexpr int64_t taskRows = kGroupRows<T>;
    const int64_t down = ceilDivide(rows, taskRows);
    for (int64_t start = 0; start < vocabulary; start += kHeadBlock) {
      const int64_t width = std::min(kHeadBlock, vocabulary - start), across = ceilDivide(width, kHeadTile);
      const Packed<T> right = packRight(right_, byRows(w + start * hidden, hidden), width, hidden, &pool_);
      pool_.run(down * across, [&](int64_t task, int thread) {
        const int64_t row = task % down * taskRows, height = std::min(taskRows, rows - row);
        const int64_t column = task / down * kHeadTile, columns = std::min(kHeadTile, width - column);
        float* logits = headTiles_[size_t(thread)].reserve(taskRows * kHeadTile);
        multiply<T>({left.data + row / kTileRows<T> * left.stride, left.stride},
                    {right.data + column / kTileColumns * right.stride, right.stride}, height, columns, hidden, logits,
                    kHeadTile, false);
        for (int64_t i = row; i < row + height; i++, logits += kHeadTile) {
          const int64_t wanted = target(first + i) - (start + column), tile = (start + column) / kHeadTile;
          if (wanted >= 0 && wanted < columns) targets[i] = logits[wanted];
          const float most = maxima[i * tiles + tile] = largest(logits, columns);
          sums[i * tiles + tile] = expAndSum(logits, most, columns);
          if (probabilities == nullptr) continue;
          T* to = probabilities + i * vocabulary + start + column;
          for (int64_t j = 0; j < columns; j++) store(to + j, logits[j]);
        }
      });
    }
    // The maxima become the factors by which probabilities are too large.
    forRows(rows, [&](int64_t i) {
      float* factors = maxima + i * tiles;
      const float most = largest(factors, tiles);
      float sum = 0;
      for (int64_t tile = 0; tile < tiles; tile++) sum += sums[i * tiles + tile] * expOf(factors[tile] - most);
      const float logSum = most + std::log(sum);
      rowLosses[first + i] = logSum - targets[i];
      for (int64_t tile = 0; tile < tiles; tile++) factors[tile] = expOf(factors[tile] - logSum) * rowWeight;
      targets[i] = (expOf(targets[i] - logSum) - 1) * rowWeight;
    });
    if (gradient == nullptr) return;

    clock.enter(Phase::headBackward);
    float* dNormalized = reserveRows(dNormalized_, hidden);
    const Packed<T> inputs = packRight(headRight_, byColumns(normalized, hidden), hidden, rows, &pool_);
    for (int64_t start = 0; start < vocabulary; start += kHeadBlock) {
      const int64_t width = std::min(kHeadBlock, vocabulary - start);
      T* block = probabilities + start;
      forRows(rows, [&](int64_t i) {
        for (int64_t column = 0; column < width; column += kHeadTile) {
          const float factor = maxima[i * tiles + (start + column) / kHeadTile];
          T* to = block + i * vocabulary + column;
          for (int64_t j = 0; j < std::min(kHeadTile, width - column); j++) store(to + j, toFloat(to[j]) * factor);
        }
        const int64_t wanted = target(first + i) - start;
        if (wanted >= 0 && wanted < width) store(block + i * vocabulary + wanted, targets[i]);
      });
      product(byRows<T>(block, vocabulary), byColumns(w + start * hidden, hidden), rows, hidden, width, dNormalized,
              start > 0);
      const Packed<T> left = packLeft(left_, byColumns<T>(block, vocabulary), width, rows, &pool_);
      multiply(pool_, left, inputs, width, hidden, rows, gradient + at_.head + start * hidden, hidden, accumulate);
    }
    rmsNormBackward(x, norm_, dNormalized, dStream_.data() + first * hidden, false, gradient + at_.norm,
                    accumulate, rows);
  }

  const Shape s_;
  const Layout at_;
  Pool& pool_;
  const float* weights_ = nullptr;
  const float *norm_ = nullptr, *head_ = nullptr;
  int64_t sequences_ = 0, rows_ = 0;
  Buffer<int32_t> inputs_, targets_;

  Buffer<float> cosine_, sine_;
  std::unique_ptr<Attention<T>[]> attention_;
  // The residual stream before each block and behind the last.
  std::vector<std::unique_ptr<Buffer<float>>> streams_;
  std::vector<Kept> kept_;
  Buffer<T> left_, right_, headLeft_, headRight_, probabilities_;
  Buffer<float> normalized_, inner_, dStream_, dNormalized_, dGateUp_, dQkv_, dKeys_, dValues_, partialSums_;
  Buffer<float> tileMaxima_, tileSums_, targetLogits_;
  std::unique_ptr<Buffer<float>[]> headTiles_;
};

}  // namespace alice
