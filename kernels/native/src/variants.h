// Losses of sparse variants of a model, each computed as a difference from the model as it is (the base):
//   W' x' = W x + W (x' - x) + dW x'
// The first term is known in float32; the second is a product in bf16, whose rounding touches the small difference only;
// the third is sparse and in float32, as is everything elementwise and attention. All variants share the base's operands,
// its products and its weights in bf16. A variant's residual stream is kept as its difference too.
#pragma once
#include <numeric>
#include <optional>

#include "model.h"

namespace alice {

// A variant's changes of neighbouring tensors: `flat[indices[i]] += deltas[i]`, ascending.
struct Changes {
  const uint32_t* indices;
  const float* deltas;
  int64_t count;

  // Those in [first, end).
  Changes between(int64_t first, int64_t end) const {
    const uint32_t *from = std::lower_bound(indices, indices + count, first), *to = std::lower_bound(from, indices + count, end);
    return {from, deltas + (from - indices), to - from};
  }
};

// Outputs whose sums of changes are made together.
constexpr int kUnit = kLanes < 8 ? kLanes : 8;

// Memory of a MatrixChanges.
struct MatrixMemory {
  Buffer<int64_t> ends, starts;
  Buffer<uint32_t> inputs;
  Buffer<float> deltas;
};

// Changes of a matrix [outputs, inputs] by units of outputs. A unit takes steps [starts[u], starts[u + 1]); in each, every
// output of it has one change, which is zero where it has no more: then no branch depends on how many there are.
struct MatrixChanges {
  const int64_t* starts;
  const uint32_t* inputs;
  const float* deltas;

  // Those of the outputs that begin at flat index `offset`. Throws unless their indices ascend.
  MatrixChanges(const Changes& all, int64_t offset, int64_t outputs, int64_t width, MatrixMemory& memory) {
    const Changes changes = all.between(offset, offset + outputs * width);
    const int64_t units = ceilDivide(outputs, kUnit);
    int64_t *ends = memory.ends.reserve(units * kUnit), *to = memory.starts.reserve(units + 1);
    int64_t at = 0, least = offset;
    to[0] = 0;
    for (int64_t output = 0, most = 0; output < units * kUnit; output++) {
      const int64_t first = at, end = offset + (output + 1) * width;
      for (; at < changes.count && changes.indices[at] < end; at++) {
        if (changes.indices[at] < least) throw std::invalid_argument("indices do not ascend");
        least = changes.indices[at];
      }
      ends[output] = at;
      most = std::max(most, at - first);
      if ((output + 1) % kUnit != 0) continue;
      to[output / kUnit + 1] = to[output / kUnit] + most;
      most = 0;
    }
    if (at < changes.count) throw std::invalid_argument("indices do not ascend");
    uint32_t* input = memory.inputs.reserve(to[units] * kUnit);
    float* delta = memory.deltas.reserve(to[units] * kUnit);
    for (int64_t output = 0; output < units * kUnit; output++) {
      int64_t from = output == 0 ? 0 : ends[output - 1];
      for (int64_t step = to[output / kUnit]; step < to[output / kUnit + 1]; step++, from++) {
        const bool any = from < ends[output];
        input[step * kUnit + output % kUnit] = any ? uint32_t(changes.indices[from] - offset - output * width) : 0;
        delta[step * kUnit + output % kUnit] = any ? changes.deltas[from] : 0;
      }
    }
    starts = to;
    inputs = input;
    deltas = delta;
  }
};

template <class T>
class Differences {
 public:
  Differences(const Shape& shape, ModelOf<float>& model, Pool& pool)
      : s_(shape), at_(shape), model_(model), pool_(pool), threads_(size_t(pool.threads())) {}

  int64_t rows() const { return rows_; }

  // Runs a block of the base, y = block(x), and keeps what variants need of it. `pack` where the weights are others than
  // at the last call.
  void base(const float* w, const float* x, float* y, int64_t sequences, bool pack) {
    const auto& at = at_.block;
    const int64_t hidden = s_.hidden, ffn = s_.ffn;
    if (!pack && !packed_) throw std::invalid_argument("weights have not been packed");
    rows_ = headRows_ = 0;
    model_.block({w, at}, x, y, sequences);
    if (pack) {
      packed_ = false;
      packedQuery_ = packRight(query_, byRows(w + at.query, hidden), at_.queryKeyValue, hidden, &pool_);
      packedOutput_ = packRight(output_, byRows(w + at.output, hidden), hidden, hidden, &pool_);
      packedGate_ = packRight(gate_, byRows(w + at.gate, hidden), ffn, hidden, &pool_);
      packedUp_ = packRight(up_, byRows(w + at.gate + ffn * hidden, hidden), ffn, hidden, &pool_);
      packedDown_ = packRight(down_, byRows(w + at.down, ffn), hidden, ffn, &pool_);
      packed_ = true;
    }
    std::copy_n(w + at.attentionNorm, hidden, attentionNorm_.reserve(hidden));
    std::copy_n(w + at.ffnNorm, hidden, ffnNorm_.reserve(hidden));
    const int64_t rows = sequences * s_.context;
    const auto& kept = model_.kept_[0];
    stream_ = reserveRows(streamBuffer_, hidden);
    middle_ = kept.middle.data();
    float *attentionIn = reserveRows(attentionIn_, hidden), *ffnIn = reserveRows(ffnIn_, hidden);
    model_.work_.forRows(rows, [&](int64_t row) {
      const int64_t i = row * hidden;
      std::copy_n(x + i, hidden, streamBuffer_.data() + i);
      rmsNormRow(x + i, attentionNorm_.data(), attentionIn + i, hidden, float(s_.epsilon));
      rmsNormRow(middle_ + i, ffnNorm_.data(), ffnIn + i, hidden, float(s_.epsilon));
    });
    sequences_ = sequences;
    rows_ = rows;
  }

  // Runs the same block of a variant: `stream`, the difference of its residual stream before the block, becomes that
  // behind it. `offset` is the flat index of the block's first weight.
  void block(float* stream, const Changes& changes, int64_t offset) {
    const auto& at = at_.block;
    const int64_t hidden = s_.hidden, ffn = s_.ffn, qkvWidth = at_.queryKeyValue;
    const struct {
      int64_t offset, outputs, width;
    } parts[kMatrices] = {{at.query, qkvWidth, hidden},
                          {at.output, hidden, hidden},
                          {at.gate, ffn, hidden},
                          {at.gate + ffn * hidden, ffn, hidden},
                          {at.down, hidden, ffn}};
    std::optional<MatrixChanges> matrices[kMatrices];
    pool_.run(kMatrices, [&](int64_t i, int) {
      matrices[i].emplace(changes, offset + parts[i].offset, parts[i].outputs, parts[i].width, matrices_[i]);
    });
    const MatrixChanges &query = *matrices[0], &output = *matrices[1], &gate = *matrices[2], &up = *matrices[3],
                        &down = *matrices[4];

    const float* norm = changedNorm(attentionNorm_.data(), changes, offset + at.attentionNorm);
    prepareNormalized(operand_, rows_, stream_, stream, norm, attentionIn_.data());
    const auto& kept = model_.kept_[0];
    float* qkv = reserveRows(variant_.queryKeyValue, qkvWidth);
    product(operand_, packedQuery_, query, qkvWidth, [&](int64_t row, int64_t column, int64_t width, const float* tile) {
      std::copy_n(tile, width, qkv + row * qkvWidth + column);
    });
    // Rotation is linear: that of the difference is added.
    model_.work_.forRows(rows_, [&](int64_t row) {
      float* difference = qkv + row * qkvWidth;
      model_.block_.rotateHeads(difference, row % s_.context, 1);
      add(difference, kept.queryKeyValue.data() + row * qkvWidth, qkvWidth);
    });
    float* context = reserveRows(variant_.context, hidden);
    reserveRows(variant_.logSums, s_.queryHeads);
    pool_.run(sequences_ * s_.queryHeads, [&](int64_t task, int thread) {
      model_.block_.attention_[size_t(thread)].forward(model_.block_.headView(variant_, task / s_.queryHeads, task % s_.queryHeads));
    });
    prepare(operand_, rows_, hidden, kept.context.data(),
            [&](int64_t row, float*) { return context + row * hidden; });
    const auto addToStream = [&](int64_t row, int64_t column, int64_t width, const float* tile) {
      add(stream + row * hidden + column, tile, width);
    };
    product(operand_, packedOutput_, output, hidden, addToStream);

    norm = changedNorm(ffnNorm_.data(), changes, offset + at.ffnNorm);
    prepareNormalized(operand_, rows_, middle_, stream, norm, ffnIn_.data());
    float* inner = reserveRows(inner_, ffn);
    const float* gateUp = kept.gateUp.data();
    overTiles(ffn, [&](const Tile& tile, int thread) {
      float *gates = threads_[size_t(thread)].tile.reserve(kTaskRows * kTaskColumns);
      float *ups = threads_[size_t(thread)].secondTile.reserve(kTaskRows * kTaskColumns);
      multiplyDifference(operand_, packedGate_, gate, tile, gates);
      multiplyDifference(operand_, packedUp_, up, tile, ups);
      for (int64_t i = 0; i < tile.rows; i++, gates += kTaskColumns, ups += kTaskColumns) {
        const int64_t row = tile.row + i;
        add(gates, gateUp + row * 2 * ffn + tile.column, tile.columns);
        add(ups, gateUp + row * 2 * ffn + ffn + tile.column, tile.columns);
        swiGluRow(gates, ups, inner + row * ffn + tile.column, tile.columns);
      }
    });
    prepare(operand_, rows_, ffn, model_.block_.inner_.data(), [&](int64_t row, float*) { return inner + row * ffn; });
    product(operand_, packedDown_, down, hidden, addToStream);
  }

  // Begins the head: rows of the base's stream and their targets, and how many variants will be compared.
  void beginHead(const float* norm, const float* x, const int32_t* targets, int64_t rows, int64_t variants) {
    // The block's base goes: its memory serves the head.
    rows_ = headRows_ = column_ = 0;
    std::copy_n(norm, s_.hidden, headNorm_.reserve(s_.hidden));
    std::copy_n(x, rows * s_.hidden, streamBuffer_.reserve(s_.batch * s_.context * s_.hidden));
    std::copy_n(targets, rows, targets_.reserve(s_.batch * s_.context));
    float* normalized = reserveRows(attentionIn_, s_.hidden);
    model_.work_.forRows(rows, [&](int64_t row) {
      rmsNormRow(x + row * s_.hidden, norm, normalized + row * s_.hidden, s_.hidden, float(s_.epsilon));
    });
    headLeft_ = packLeft(headLeftBuffer_, byRows<float>(normalized, s_.hidden), rows, s_.hidden, &pool_);
    while (int64_t(heads_.size()) < 1 + variants) heads_.push_back(std::make_unique<Head>());
    headRows_ = rows;
    variants_ = variants;
    for (int64_t i = 0; i <= variants; i++) heads_[size_t(i)]->ready = i == 0;
  }
  int64_t headRows() const { return headRows_; }
  int64_t variants() const { return variants_; }

  // The stream difference of variant 1, 2, ... behind the last block, and its changes of the final norm, which begins at
  // `offset`.
  void headVariant(int64_t variant, const float* stream, const Changes& changes, int64_t offset) {
    Head& head = *heads_[size_t(variant)];
    const float* norm = changedNorm(headNorm_.data(), changes, offset);
    prepareNormalized(head.operand, headRows_, streamBuffer_.data(), stream, norm, attentionIn_.data());
    head.ready = true;
  }

  // Whether the head can go on with a column: all variants are there, and those before it are done.
  bool expects(int64_t column) const {
    return headRows_ > 0 && column == column_ &&
           std::all_of(heads_.begin(), heads_.begin() + 1 + variants_, [](const auto& head) { return head->ready; });
  }
  bool headDone() const { return headRows_ > 0 && column_ == s_.vocabulary; }

  // Goes on with columns of the head, from `column` on, for base and variants; the head begins at flat index `offset`.
  // Returns the next column.
  int64_t headColumns(const float* weights, int64_t column, const std::vector<Changes>& changes, int64_t offset) {
    const int64_t hidden = s_.hidden, width = std::min(kHeadBlock, s_.vocabulary - column);
    const int64_t tiles = ceilDivide(width, kHeadTile);
    column_ = -1;
    const float* w = weights + column * hidden;
    const Packed<float> right = packRight(exactRight_, byRows(w, hidden), width, hidden, &pool_);
    const Packed<T> roundedRight = packRight(roundedRight_, byRows(w, hidden), width, hidden, &pool_);
    std::vector<std::unique_ptr<MatrixChanges>> matrices(changes.size());
    pool_.run(variants_, [&](int64_t i, int) {
      matrices[size_t(i)] = std::make_unique<MatrixChanges>(changes[size_t(i)], offset + column * hidden, width, hidden,
                                                            heads_[size_t(i + 1)]->matrix);
    });
    for (int64_t i = 0; i <= variants_; i++) {
      Head& head = *heads_[size_t(i)];
      head.tileMaxima.reserve(headRows_ * kTilesPerBlock);
      head.tileSums.reserve(headRows_ * kTilesPerBlock);
      head.targets.reserve(headRows_);
      head.sums.reserve(headRows_);
    }
    // A task takes all variants through the same columns: the weights stay near the core, variants pass by.
    // More columns a task read each variant's operand less often, if that leaves several tasks for each thread.
    const int64_t down = ceilDivide(headRows_, kTaskRows);
    const int64_t perTask = down * ceilDivide(tiles, kMostHeadTiles) >= 4 * pool_.threads() ? kMostHeadTiles : kMostHeadTiles / 2;
    const int64_t across = ceilDivide(tiles, perTask);
    pool_.run(down * across, [&](int64_t task, int thread) {
      const int64_t row = task % down * kTaskRows, rows = std::min(kTaskRows, headRows_ - row);
      const int64_t firstTile = task / down * perTask, lastTile = std::min(tiles, firstTile + perTask);
      float* baseLogits = threads_[size_t(thread)].secondTile.reserve(perTask * kTaskRows * kHeadTile);
      float* logits = threads_[size_t(thread)].tile.reserve(kTaskRows * kHeadTile);
      for (int64_t variant = 0; variant <= variants_; variant++)
        for (int64_t t = firstTile; t < lastTile; t++) {
          const Tile tile{row, rows, t * kHeadTile, std::min(kHeadTile, width - t * kHeadTile)};
          float* base = baseLogits + (t - firstTile) * kTaskRows * kHeadTile;
          if (variant == 0) {
            multiply<float>({headLeft_.data + row / kTileRows<float> * headLeft_.stride, headLeft_.stride},
                            {right.data + tile.column / kTileColumns * right.stride, right.stride}, rows, tile.columns,
                            hidden, base, kHeadTile, false);
            std::copy_n(base, rows * kHeadTile, logits);
          } else {
            multiplyDifference(heads_[size_t(variant)]->operand, roundedRight, *matrices[size_t(variant - 1)], tile,
                               logits);
          }
          finishTile(*heads_[size_t(variant)], tile, t, column, logits, variant == 0 ? nullptr : base);
        }
    });
    pool_.run(1 + variants_, [&](int64_t i, int) {
      const Head& head = *heads_[size_t(i)];
      RunningSum* sums = head.sums.data();
      for (int64_t row = 0; row < headRows_; row++)
        for (int64_t tile = 0; tile < tiles; tile++) {
          const int64_t at = row * kTilesPerBlock + tile;
          if (column == 0 && tile == 0) sums[row] = {head.tileMaxima.data()[at], head.tileSums.data()[at]};
          else sums[row].add(head.tileMaxima.data()[at], head.tileSums.data()[at]);
        }
    });
    return column_ = column + width;
  }

  // Cross-entropy of each row under the base (0) or a variant (1, 2, ...), when all columns are done.
  void headLosses(int64_t variant, float* rowLosses) const {
    const Head& head = *heads_[size_t(variant)];
    for (int64_t row = 0; row < headRows_; row++)
      rowLosses[row] = head.sums.data()[row].logSum() - head.targets.data()[row];
  }

 private:
  // Of a block: query/key/value, output, gate, up, down.
  static constexpr int kMatrices = 5;
  static constexpr int kRows = kTileRows<T>;
  // Rows whose sparse products are computed together: of one panel or two, each in registers of its own.
  static constexpr int kPanelVectors = (kRows + kLanes - 1) / kLanes;
  static constexpr int kStripePanels = kPanelVectors == 1 ? 2 : 1;
  static constexpr int kStripeVectors = kStripePanels * kPanelVectors;
  static constexpr int64_t kStripeLanes = kStripeVectors * kLanes;
  static constexpr int64_t kStripeRows = kStripePanels * kRows;
  // Rows of a task: whole stripes, and whole panels of the base too.
  static constexpr int64_t kCommonRows = std::lcm(kStripeRows, int64_t(kTileRows<float>));
  static constexpr int64_t kTaskRows = (48 + kCommonRows - 1) / kCommonRows * kCommonRows;
  static constexpr int64_t kTaskColumns = 8 * kTileColumns;
  static constexpr int64_t kTilesPerBlock = kHeadBlock / kHeadTile;
  // Of a task: their weights in bf16 fill a core's cache at a width of 512.
  static constexpr int64_t kMostHeadTiles = 4;
  static_assert(kHeadTile == kTaskColumns && kHeadBlock % kHeadTile == 0);

  // A variant's operand of a product: its difference, packed, and itself for the sparse part, [groups][width][lanes].
  struct DifferenceOperand {
    Buffer<T> buffer;
    Buffer<float> stripes;
    Packed<T> packed;
    int64_t width;
  };

  // A part of a product.
  struct Tile {
    int64_t row, rows, column, columns;
  };

  // The head under the base or a variant.
  struct Head {
    DifferenceOperand operand;
    MatrixMemory matrix;
    Buffer<RunningSum> sums;
    Buffer<float> tileMaxima, tileSums, targets;
    bool ready = false;
  };

  struct ThreadMemory {
    Buffer<float> tile, secondTile, values, differences;
  };

  template <class Element>
  Element* reserveRows(Buffer<Element>& buffer, int64_t width) {
    return buffer.reserve(s_.batch * s_.context * width);
  }

  static void add(float* to, const float* values, int64_t length) {
#pragma omp simd
    for (int64_t i = 0; i < length; i++) to[i] += values[i];
  }

  // A norm's weights with a variant's changes, which begin at flat index `offset`.
  const float* changedNorm(const float* weights, const Changes& all, int64_t offset) {
    float* changed = changedNorm_.reserve(s_.hidden);
    std::copy_n(weights, s_.hidden, changed);
    const Changes changes = all.between(offset, offset + s_.hidden);
    for (int64_t i = 0; i < changes.count; i++) {
      const int64_t at = int64_t(changes.indices[i]) - offset;
      if (at < 0 || at >= s_.hidden) throw std::invalid_argument("indices do not ascend");
      changed[at] += changes.deltas[i];
    }
    return changed;
  }

  // The operand behind a norm of the stream `base + difference`; `normalizedBase` is the base's.
  void prepareNormalized(DifferenceOperand& to, int64_t rows, const float* base, const float* difference, const float* norm,
                         const float* normalizedBase) {
    const int64_t hidden = s_.hidden;
    prepare(to, rows, hidden, normalizedBase, [&](int64_t row, float* values) {
      const float *x = base + row * hidden, *d = difference + row * hidden;
#pragma omp simd
      for (int64_t i = 0; i < hidden; i++) values[i] = x[i] + d[i];
      rmsNormRow(values, norm, values, hidden, float(s_.epsilon));
      return values;
    });
  }

  // `rowOf(row, scratch)` returns a row of the variant's operand, which may be in `scratch`; `base` has the base's.
  template <class RowOf>
  void prepare(DifferenceOperand& to, int64_t rows, int64_t width, const float* base, const RowOf& rowOf) {
    const int64_t groups = ceilDivide(rows, kStripeRows);
    to.packed = reservePanels<Left<T>>(to.buffer, groups * kStripeRows, width);
    to.width = width;
    float* stripes = to.stripes.reserve(groups * width * kStripeLanes);
    pool_.run(groups, [&](int64_t group, int thread) {
      float* values = threads_[size_t(thread)].values.reserve(kStripeRows * width);
      float* differences = threads_[size_t(thread)].differences.reserve(kStripeRows * width);
      const int64_t first = group * kStripeRows, count = std::min(kStripeRows, rows - first);
      const float* all[kStripeRows];
      for (int64_t i = 0; i < count; i++) {
        const float *row = all[i] = rowOf(first + i, values + i * width), *other = base + (first + i) * width;
        float* difference = differences + i * width;
#pragma omp simd
        for (int64_t j = 0; j < width; j++) difference[j] = row[j] - other[j];
      }
      const Packed<T> panels{to.packed.data + group * kStripePanels * to.packed.stride, to.packed.stride};
      for (int64_t panel = 0; panel * kRows < count; panel++)
        packPanelOf<Left<T>>(panels, byRows<float>(differences, width), panel, count, width);
      float* stripe = stripes + group * width * kStripeLanes;
      for (int vector = 0; vector < kStripeVectors; vector++) turn(all, count, vector, width, stripe + vector * kLanes);
    });
  }

  // The row that a lane of a group's vectors holds; those past a panel's rows hold none.
  static int64_t rowOfLane(int vector, int lane) {
    const int64_t inPanel = vector % kPanelVectors * kLanes + lane;
    return inPanel < kRows ? vector / kPanelVectors * kRows + inPanel : kStripeRows;
  }

  // Writes the rows that a vector holds, by column.
  static void turn(const float* const* rows, int64_t count, int vector, int64_t width, float* stripe) {
    int64_t column = 0;
    for (; column + kLanes <= width; column += kLanes) {
      Words block[kLanes];
#pragma GCC unroll 16
      for (int lane = 0; lane < kLanes; lane++) {
        const int64_t row = rowOfLane(vector, lane);
        block[lane] = Words{};
        if (row < count && row < kStripeRows) memcpy(&block[lane], rows[row] + column, sizeof(Words));
      }
      transpose(block);
      for (int j = 0; j < kLanes; j++) memcpy(stripe + (column + j) * kStripeLanes, &block[j], sizeof(Words));
    }
    for (; column < width; column++)
      for (int lane = 0; lane < kLanes; lane++) {
        const int64_t row = rowOfLane(vector, lane);
        stripe[column * kStripeLanes + lane] = row < count ? rows[row][column] : 0;
      }
  }

  template <class Body>
  void overTiles(int64_t columns, const Body& body) {
    const int64_t down = ceilDivide(rows_, kTaskRows), across = ceilDivide(columns, kTaskColumns);
    pool_.run(down * across, [&](int64_t task, int thread) {
      const int64_t row = task % down * kTaskRows, column = task / down * kTaskColumns;
      body(Tile{row, std::min(kTaskRows, rows_ - row), column, std::min(kTaskColumns, columns - column)}, thread);
    });
  }

  // Calls `finish(row, column, columns, values)` for each row of each tile of the product's difference.
  template <class Finish>
  void product(const DifferenceOperand& left, Packed<T> right, const MatrixChanges& changes, int64_t columns,
               const Finish& finish) {
    overTiles(columns, [&](const Tile& tile, int thread) {
      float* values = threads_[size_t(thread)].tile.reserve(kTaskRows * kTaskColumns);
      multiplyDifference(left, right, changes, tile, values);
      for (int64_t i = 0; i < tile.rows; i++)
        finish(tile.row + i, tile.column, tile.columns, values + i * kTaskColumns);
    });
  }

  // W (x' - x) + dW x' for a tile.
  void multiplyDifference(const DifferenceOperand& left, Packed<T> right, const MatrixChanges& changes, const Tile& tile,
                          float* values) const {
    multiply<T>({left.packed.data + tile.row / kRows * left.packed.stride, left.packed.stride},
                {right.data + tile.column / kTileColumns * right.stride, right.stride}, tile.rows, tile.columns, left.width,
                values, kTaskColumns, false);
    for (int64_t row = 0; row < tile.rows; row += kStripeRows)
      addChanges(changes, tile.column, tile.columns,
                 left.stripes.data() + (tile.row + row) / kStripeRows * left.width * kStripeLanes,
                 std::min(kStripeRows, tile.rows - row), values + row * kTaskColumns);
  }

  // The sparse part for a group of rows: sums of as many outputs as there are lanes, one row a lane, turned and added to
  // the tile.
  static void addChanges(const MatrixChanges& matrix, int64_t first, int64_t columns, const float* stripe, int64_t rows,
                         float* tile) {
    for (int64_t column = 0; column < columns; column += kLanes) {
      const int64_t unit = (first + column) / kUnit;
      const int64_t units = std::min<int64_t>(kLanes / kUnit, ceilDivide(columns - column, kUnit));
      if (matrix.starts[unit] == matrix.starts[unit + units]) continue;
      Words sums[kLanes][kStripeVectors];
      for (int64_t u = 0; u < kLanes / kUnit; u++) {
        Vector sum[kUnit][kStripeVectors] = {};
        if (u < units)
          for (int64_t step = matrix.starts[unit + u]; step < matrix.starts[unit + u + 1]; step++)
#pragma GCC unroll 8
            for (int output = 0; output < kUnit; output++) {
              const float* x = stripe + int64_t(matrix.inputs[step * kUnit + output]) * kStripeLanes;
              const float delta = matrix.deltas[step * kUnit + output];
#pragma GCC unroll 8
              for (int vector = 0; vector < kStripeVectors; vector++)
                sum[output][vector] += delta * loadVector(x + vector * kLanes);
            }
        memcpy(sums[u * kUnit], sum, sizeof sum);
      }
#pragma GCC unroll 8
      for (int vector = 0; vector < kStripeVectors; vector++) {
        Words block[kLanes];
#pragma GCC unroll 16
        for (int output = 0; output < kLanes; output++) block[output] = sums[output][vector];
        transpose(block);
#pragma GCC unroll 16
        for (int lane = 0; lane < kLanes; lane++) {
          const int64_t row = rowOfLane(vector, lane);
          if (row >= rows) continue;
          float* to = tile + row * kTaskColumns + column;
          storeVector(to, loadVector(to) + Vector(block[lane]));
        }
      }
    }
  }

  // Maximum, sum of exponentials and target of each row of a tile of logits, the `number`th of the block at `column`.
  // Differences become logits by adding the base's, if any, row by row: a tile is more than the nearest cache holds.
  void finishTile(Head& head, const Tile& tile, int64_t number, int64_t column, float* logits, const float* base) const {
    for (int64_t i = tile.row; i < tile.row + tile.rows; i++, logits += kHeadTile) {
      if (base != nullptr) add(logits, base + (i - tile.row) * kHeadTile, tile.columns);
      const int64_t wanted = targets_.data()[i] - (column + tile.column);
      if (wanted >= 0 && wanted < tile.columns) head.targets.data()[i] = logits[wanted];
      const float most = head.tileMaxima.data()[i * kTilesPerBlock + number] = largest(logits, tile.columns);
      head.tileSums.data()[i * kTilesPerBlock + number] = expAndSum(logits, most, tile.columns);
    }
  }

  const Shape s_;
  const Layout at_;
  ModelOf<float>& model_;
  Pool& pool_;
  int64_t sequences_ = 0, rows_ = 0;
  std::vector<ThreadMemory> threads_;

  // Of the base's current block.
  bool packed_ = false;
  Buffer<T> query_, output_, gate_, up_, down_;
  Packed<T> packedQuery_{}, packedOutput_{}, packedGate_{}, packedUp_{}, packedDown_{};
  Buffer<float> attentionNorm_, ffnNorm_, streamBuffer_, attentionIn_, ffnIn_;
  const float *stream_ = nullptr, *middle_ = nullptr;

  // Of the variant that goes through it.
  MatrixMemory matrices_[kMatrices];
  Buffer<float> changedNorm_, inner_;
  DifferenceOperand operand_;
  typename Block<float>::Kept variant_;

  // Of the head.
  int64_t headRows_ = 0, variants_ = 0, column_ = -1;
  Buffer<int32_t> targets_;
  Buffer<float> headNorm_, headLeftBuffer_, exactRight_;
  Buffer<T> roundedRight_;
  Packed<float> headLeft_{};
  // The base's first.
  std::vector<std::unique_ptr<Head>> heads_;
};

}  // namespace alice
