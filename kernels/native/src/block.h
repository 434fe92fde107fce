// A transformer block (kernels/model/block.ts), forward and backward, over whole sequences, with weights and gradients
// wherever they lie.
#pragma once
#include "attention.h"
#include "work.h"

namespace alice {

// A block's weights: matrices as in Layout::Block, norms in float32 always.
struct BlockWeights {
  Weights matrices;
  const float *attentionNorm, *ffnNorm;

  BlockWeights(Weights block, const float* norms, int64_t hidden)
      : matrices(block), attentionNorm(norms), ffnNorm(norms + hidden) {}
  BlockWeights(const float* block, const Layout::Block& at)
      : matrices(block), attentionNorm(block + at.attentionNorm), ffnNorm(block + at.ffnNorm) {}
};

template <class T>
class Block {
  template <class>
  friend class Differences;

 public:
  // What the backward pass needs of the forward pass, besides the block's input.
  struct Kept {
    Buffer<float> middle, queryKeyValue, context, gateUp, logSums;
  };

  explicit Block(Work<T>& work) : work_(work), s_(work.shape), at_(work.at), pool_(work.pool) {
    const int64_t half = at_.headWidth / 2;
    float *cosine = cosine_.reserve(s_.context * half), *sine = sine_.reserve(s_.context * half);
    for (int64_t position = 0; position < s_.context; position++)
      for (int64_t pair = 0; pair < half; pair++) {
        const double angle = double(position) * std::pow(s_.ropeTheta, -double(pair) / double(half));
        cosine[position * half + pair] = float(std::cos(angle));
        sine[position * half + pair] = float(std::sin(angle));
      }
    attention_ = std::make_unique<Attention<T>[]>(size_t(pool_.threads()));
  }

  // `y` may be `x`; without one, only what backward needs is computed.
  void forward(const BlockWeights& w, const float* x, float* y, int64_t sequences, Kept& kept) {
    const PhaseScope phase(work_.clock, Phase::blocksForward);
    const auto& at = at_.block;
    const int64_t hidden = s_.hidden, ffn = s_.ffn, rows = sequences * s_.context;
    float* qkv = work_.reserveRows(kept.queryKeyValue, at_.queryKeyValue);
    float* context = work_.reserveRows(kept.context, hidden);
    work_.reserveRows(kept.logSums, s_.queryHeads);
    float* middle = work_.reserveRows(kept.middle, hidden);
    float* gateUp = work_.reserveRows(kept.gateUp, 2 * ffn);

    const float* normalized = work_.rmsNorm(x, w.attentionNorm, rows);
    work_.product(byRows(normalized, hidden), w.matrices + at.query, Read::kByRows, hidden, rows, at_.queryKeyValue,
                  hidden, qkv, false);
    work_.forRows(rows, [&](int64_t row) { rotateHeads(qkv + row * at_.queryKeyValue, row % s_.context, 1); });
    work_.clock.enter(Phase::attentionForward);
    pool_.run(sequences * s_.queryHeads, [&](int64_t task, int thread) {
      attention_[size_t(thread)].forward(headView(kept, task / s_.queryHeads, task % s_.queryHeads));
    });
    work_.clock.enter(Phase::blocksForward);
    work_.forRows(rows, [&](int64_t row) { std::copy_n(x + row * hidden, hidden, middle + row * hidden); });
    work_.product(byRows<float>(context, hidden), w.matrices + at.output, Read::kByRows, hidden, rows, hidden, hidden,
                  middle, true);

    normalized = work_.rmsNorm(middle, w.ffnNorm, rows);
    work_.product(byRows(normalized, hidden), w.matrices + at.gate, Read::kByRows, hidden, rows, 2 * ffn, hidden, gateUp,
                  false);
    if (y == nullptr) return;
    const float* inner = swiGlu(gateUp, rows);
    work_.forRows(rows, [&](int64_t row) { std::copy_n(middle + row * hidden, hidden, y + row * hidden); });
    work_.product(byRows(inner, ffn), w.matrices + at.down, Read::kByRows, ffn, rows, hidden, ffn, y, true);
  }

  // Turns the gradient of the stream behind the block into that before it; writes or adds to that of the weights.
  void backward(const BlockWeights& w, const float* x, Kept& kept, float* dStream, float* gradient, bool accumulate,
                int64_t sequences) {
    const PhaseScope phase(work_.clock, Phase::blocksBackward);
    const auto& at = at_.block;
    const int64_t hidden = s_.hidden, ffn = s_.ffn, qkvWidth = at_.queryKeyValue, rows = sequences * s_.context;
    float* dNormalized = work_.reserveRows(dNormalized_, hidden);

    const float* gateUp = kept.gateUp.data();
    const float* inner = swiGlu(gateUp, rows);
    work_.product(byColumns<float>(dStream, hidden), byColumns(inner, ffn), hidden, ffn, rows, gradient + at.down,
                  accumulate);
    float* dInner = work_.reserveRows(inner_, ffn);
    work_.product(byRows<float>(dStream, hidden), w.matrices + at.down, Read::kByColumns, ffn, rows, ffn, hidden, dInner,
                  false);
    float* dGateUp = work_.reserveRows(dGateUp_, 2 * ffn);
    work_.forRows(rows, [&](int64_t row) {
      const float* gate = gateUp + row * 2 * ffn;
      float* dGate = dGateUp + row * 2 * ffn;
      swiGluRowBackward(gate, gate + ffn, dInner + row * ffn, dGate, dGate + ffn, ffn);
    });
    const float* normalized = work_.rmsNorm(kept.middle.data(), w.ffnNorm, rows);
    work_.product(byColumns<float>(dGateUp, 2 * ffn), byColumns(normalized, hidden), 2 * ffn, hidden, rows,
                  gradient + at.gate, accumulate);
    work_.product(byRows<float>(dGateUp, 2 * ffn), w.matrices + at.gate, Read::kByColumns, hidden, rows, hidden, 2 * ffn,
                  dNormalized, false);
    work_.rmsNormBackward(kept.middle.data(), w.ffnNorm, dNormalized, dStream, true, gradient + at.ffnNorm, accumulate,
                          rows);

    work_.product(byColumns<float>(dStream, hidden), byColumns<float>(kept.context.data(), hidden), hidden, hidden, rows,
                  gradient + at.output, accumulate);
    float* dContext = dNormalized;
    work_.product(byRows<float>(dStream, hidden), w.matrices + at.output, Read::kByColumns, hidden, rows, hidden, hidden,
                  dContext, false);
    const float* dQkv = attentionBackward(kept, dContext, sequences);
    normalized = work_.rmsNorm(x, w.attentionNorm, rows);
    work_.product(byColumns(dQkv, qkvWidth), byColumns(normalized, hidden), qkvWidth, hidden, rows, gradient + at.query,
                  accumulate);
    work_.product(byRows(dQkv, qkvWidth), w.matrices + at.query, Read::kByColumns, hidden, rows, hidden, qkvWidth,
                  dNormalized, false);
    work_.rmsNormBackward(x, w.attentionNorm, dNormalized, dStream, true, gradient + at.attentionNorm, accumulate, rows);
  }

 private:
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

  const float* swiGlu(const float* gateUp, int64_t rows) {
    float* inner = work_.reserveRows(inner_, s_.ffn);
    work_.forRows(rows, [&](int64_t row) {
      const float* gate = gateUp + row * 2 * s_.ffn;
      swiGluRow(gate, gate + s_.ffn, inner + row * s_.ffn, s_.ffn);
    });
    return inner;
  }

  const float* attentionBackward(const Kept& kept, const float* dContext, int64_t sequences) {
    const PhaseScope phase(work_.clock, Phase::attentionBackward);
    const int64_t width = at_.headWidth, hidden = s_.hidden, group = s_.queryHeads / s_.keyValueHeads;
    float* dQkv = work_.reserveRows(dQkv_, at_.queryKeyValue);
    // By query head, [rows, queryHeads, width] twice; those of a group are added up afterwards, in order.
    float* dKeys = work_.reserveRows(dKeys_, hidden);
    float* dValues = work_.reserveRows(dValues_, hidden);
    pool_.run(sequences * s_.queryHeads, [&](int64_t task, int thread) {
      const int64_t sequence = task / s_.queryHeads, head = task % s_.queryHeads, first = sequence * s_.context;
      const int64_t at = first * hidden + head * width;
      attention_[size_t(thread)].backward(
          headView(kept, sequence, head), {dContext + at, dQkv + first * at_.queryKeyValue + head * width,
                                           at_.queryKeyValue, dKeys + at, dValues + at, hidden});
    });
    work_.forRows(sequences * s_.context, [&](int64_t row) {
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

  Work<T>& work_;
  const Shape& s_;
  const Layout& at_;
  Pool& pool_;
  Buffer<float> cosine_, sine_;
  std::unique_ptr<Attention<T>[]> attention_;
  Buffer<float> inner_, dNormalized_, dGateUp_, dQkv_, dKeys_, dValues_;
};

}  // namespace alice
