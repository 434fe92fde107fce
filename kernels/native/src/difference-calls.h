// Callbacks for variants as differences (variants.h): arguments are checked here.
#pragma once
#include "engine.h"

#if ALICE_HAS_BF16
namespace alice {

// Of one head.
constexpr int64_t kMaxVariants = 1 << 16;

inline Differences<Bf16>& differencesOf(Engine& engine) {
  if (engine.differences == nullptr) {
    auto* model = dynamic_cast<ModelOf<float>*>(engine.model.get());
    if (model == nullptr) throw std::invalid_argument("differences need an engine in fp32");
    engine.differences = std::make_unique<Differences<Bf16>>(engine.shape, *model, engine.pool);
  }
  return *engine.differences;
}

inline Changes changesOf(napi_env env, napi_value indexArray, napi_value deltaArray) {
  const auto indices = typedArray<uint32_t>(env, indexArray, napi_uint32_array, "indices");
  const auto deltas = floats(env, deltaArray, int64_t(indices.length), "deltas");
  return {indices.data, deltas.data, int64_t(indices.length)};
}

// The same, all within [offset, offset + length) and ascending.
inline Changes changesWithin(napi_env env, napi_value indexArray, napi_value deltaArray, int64_t offset, int64_t length) {
  const Changes changes = changesOf(env, indexArray, deltaArray);
  int64_t least = offset;
  for (int64_t i = 0; i < changes.count; i++) {
    if (changes.indices[i] < least) throw std::invalid_argument("indices do not ascend or begin before the tensor");
    least = changes.indices[i];
  }
  if (least >= offset + length) throw std::invalid_argument("indices go past the tensor");
  return changes;
}

inline int64_t whole(napi_env env, napi_value value, int64_t least, int64_t most, const char* name) {
  const double result = number(env, value);
  if (!(result >= double(least) && result <= double(most)) || result != std::floor(result))
    throw std::invalid_argument(std::string(name) + " is out of range");
  return int64_t(result);
}

// (engine, blockWeights, x, y, pack)
inline napi_value differenceBase(napi_env env, napi_callback_info info) {
  const Arguments<5> arguments(env, info);
  Engine& engine = engineOf(env, arguments[0]);
  const auto weights = floats(env, arguments[1], engine.layout.blockLength, "blockWeights");
  const auto x = typedArray<float>(env, arguments[2], napi_float32_array, "x");
  const size_t sequence = size_t(engine.shape.context * engine.shape.hidden);
  if (x.length == 0 || x.length % sequence != 0 || x.length / sequence > size_t(engine.shape.batch))
    throw std::invalid_argument("x is not one to `batch` sequences");
  const auto y = floats(env, arguments[3], int64_t(x.length), "y");
  if (x.data == y.data) throw std::invalid_argument("y is x");
  differencesOf(engine).base(weights.data, x.data, y.data, int64_t(x.length / sequence), number(env, arguments[4]) != 0);
  return nullptr;
}

// (engine, stream, offset, indices, deltas)
inline napi_value differenceBlock(napi_env env, napi_callback_info info) {
  const Arguments<5> arguments(env, info);
  Engine& engine = engineOf(env, arguments[0]);
  auto& differences = differencesOf(engine);
  if (differences.rows() == 0) throw std::invalid_argument("no base has gone before");
  const auto stream = floats(env, arguments[1], differences.rows() * engine.shape.hidden, "stream");
  const int64_t offset = whole(env, arguments[2], 0, kMaxParameters, "offset");
  differences.block(stream.data, changesWithin(env, arguments[3], arguments[4], offset, engine.layout.blockLength), offset);
  return nullptr;
}

// (engine, norm, x, targets, variants)
inline napi_value differenceHead(napi_env env, napi_callback_info info) {
  const Arguments<5> arguments(env, info);
  Engine& engine = engineOf(env, arguments[0]);
  const Shape& shape = engine.shape;
  const auto norm = floats(env, arguments[1], shape.hidden, "norm");
  const auto ids = typedArray<int32_t>(env, arguments[3], napi_int32_array, "targets");
  const int64_t rows = int64_t(ids.length);
  if (rows == 0 || rows > shape.batch * shape.context) throw std::invalid_argument("targets are too few or too many");
  const auto x = floats(env, arguments[2], rows * shape.hidden, "x");
  const std::vector<int32_t> targets(ids.data, ids.data + rows);
  for (const int32_t target : targets)
    if (target < 0 || target >= shape.vocabulary) throw std::invalid_argument("a target is outside of the vocabulary");
  const int64_t variants = whole(env, arguments[4], 0, kMaxVariants, "variants");
  differencesOf(engine).beginHead(norm.data, x.data, targets.data(), rows, variants);
  return nullptr;
}

// (engine, variant, stream, offset, indices, deltas)
inline napi_value differenceHeadVariant(napi_env env, napi_callback_info info) {
  const Arguments<6> arguments(env, info);
  Engine& engine = engineOf(env, arguments[0]);
  auto& differences = differencesOf(engine);
  const int64_t variant = whole(env, arguments[1], 1, differences.variants(), "variant");
  const auto stream = floats(env, arguments[2], differences.headRows() * engine.shape.hidden, "stream");
  const int64_t offset = whole(env, arguments[3], 0, kMaxParameters, "offset");
  const Changes changes = changesWithin(env, arguments[4], arguments[5], offset, engine.shape.hidden);
  differences.headVariant(variant, stream.data, changes, offset);
  return nullptr;
}

// (engine, head, column, offset, [indices], [deltas]) -> next column
inline napi_value differenceHeadColumns(napi_env env, napi_callback_info info) {
  const Arguments<6> arguments(env, info);
  // Elements first: a getter could close the engine, or change arrays that have been looked at.
  std::vector<napi_value> elements[2];
  for (size_t list = 0; list < 2; list++) {
    uint32_t length = 0;
    if (napi_get_array_length(env, arguments[4 + list], &length) != napi_ok || length > kMaxVariants)
      throw std::invalid_argument("changes are not one for each variant");
    elements[list].resize(length);
    for (uint32_t i = 0; i < length; i++) check(napi_get_element(env, arguments[4 + list], i, &elements[list][i]));
  }
  Engine& engine = engineOf(env, arguments[0]);
  auto& differences = differencesOf(engine);
  const size_t variants = size_t(differences.variants());
  if (elements[0].size() != variants || elements[1].size() != variants)
    throw std::invalid_argument("changes are not one for each variant");
  const auto head = floats(env, arguments[1], engine.shape.vocabulary * engine.shape.hidden, "head");
  const int64_t column = whole(env, arguments[2], 0, engine.shape.vocabulary - 1, "column");
  if (!differences.expects(column)) throw std::invalid_argument("column or variants are out of turn");
  const int64_t offset = whole(env, arguments[3], 0, kMaxParameters, "offset");
  std::vector<Changes> changes;
  for (size_t i = 0; i < variants; i++) changes.push_back(changesOf(env, elements[0][i], elements[1][i]));
  napi_value next;
  check(napi_create_double(env, double(differences.headColumns(head.data, column, changes, offset)), &next));
  return next;
}

// (engine, variant, rowLosses)
inline napi_value differenceLosses(napi_env env, napi_callback_info info) {
  const Arguments<3> arguments(env, info);
  Engine& engine = engineOf(env, arguments[0]);
  auto& differences = differencesOf(engine);
  if (!differences.headDone()) throw std::invalid_argument("the head is not done");
  const int64_t variant = whole(env, arguments[1], 0, differences.variants(), "variant");
  differences.headLosses(variant, floats(env, arguments[2], differences.headRows(), "rowLosses").data);
  return nullptr;
}

// (engine): frees what the others keep
inline napi_value differenceEnd(napi_env env, napi_callback_info info) {
  const Arguments<1> arguments(env, info);
  engineOf(env, arguments[0]).differences.reset();
  return nullptr;
}

}  // namespace alice
#endif
