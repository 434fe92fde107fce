// Callbacks that run a model part by part, with weights wherever they lie: what the streamed engine is made of.
#pragma once
#include "engine.h"

namespace alice {

// Float32Array, or Uint16Array of bfloat16.
inline Weights weightsOf(napi_env env, napi_value value, int64_t length, const char* name) {
  napi_typedarray_type type;
  bool is = false;
  if (napi_is_typedarray(env, value, &is) != napi_ok || !is ||
      napi_get_typedarray_info(env, value, &type, nullptr, nullptr, nullptr, nullptr) != napi_ok ||
      type != napi_uint16_array)
    return floats(env, value, length, name).data;
  const auto span = typedArray<Bf16>(env, value, napi_uint16_array, name);
  if (int64_t(span.length) != length)
    throw std::invalid_argument(std::string(name) + " must have " + std::to_string(length) + " elements, not " +
                                std::to_string(span.length));
  return span.data;
}

// `length` of an array of rows; at most `most`.
inline int64_t rowsIn(const Span<float>& x, int64_t width, int64_t most, const char* name) {
  const int64_t rows = int64_t(x.length) / width;
  if (x.length == 0 || int64_t(x.length) != rows * width || rows > most)
    throw std::invalid_argument(std::string(name) + " is too short, too long or not whole");
  return rows;
}

// Sequences in a stream of activations.
inline int64_t sequencesIn(const Engine& engine, const Span<float>& x) {
  return rowsIn(x, engine.shape.context * engine.shape.hidden, engine.shape.batch, "x");
}

inline BlockWeights blockWeightsOf(napi_env env, const Engine& engine, napi_value norms, napi_value matrices) {
  return {weightsOf(env, matrices, engine.layout.blockLength, "matrices"),
          floats(env, norms, 2 * engine.shape.hidden, "norms").data, engine.shape.hidden};
}

// (engine, norms, matrices, x, y): `y` may be `x`
inline napi_value blockForward(napi_env env, napi_callback_info info) {
  const Arguments<5> arguments(env, info);
  Engine& engine = engineOf(env, arguments[0]);
  const BlockWeights weights = blockWeightsOf(env, engine, arguments[1], arguments[2]);
  const auto x = typedArray<float>(env, arguments[3], napi_float32_array, "x");
  const int64_t sequences = sequencesIn(engine, x);
  const auto y = floats(env, arguments[4], int64_t(x.length), "y");
  engine.model->block(weights, x.data, y.data, sequences);
  return nullptr;
}

// (engine, norms, matrices, x, dStream, gradient, accumulate)
inline napi_value blockBackward(napi_env env, napi_callback_info info) {
  const Arguments<7> arguments(env, info);
  Engine& engine = engineOf(env, arguments[0]);
  const BlockWeights weights = blockWeightsOf(env, engine, arguments[1], arguments[2]);
  const auto x = typedArray<float>(env, arguments[3], napi_float32_array, "x");
  const int64_t sequences = sequencesIn(engine, x);
  const auto dStream = floats(env, arguments[4], int64_t(x.length), "dStream");
  const auto gradient = floats(env, arguments[5], engine.layout.blockLength, "gradient");
  const bool accumulate = number(env, arguments[6]) != 0;
  engine.model->blockBackward(weights, x.data, dStream.data, gradient.data, accumulate, sequences);
  return nullptr;
}

// (engine, targets, gradient): `targets` of all rows that the following calls are about
inline napi_value headBegin(napi_env env, napi_callback_info info) {
  const Arguments<3> arguments(env, info);
  Engine& engine = engineOf(env, arguments[0]);
  const auto targets = typedArray<int32_t>(env, arguments[1], napi_int32_array, "targets");
  if (targets.length == 0 || targets.length > size_t(kMaxDimension))
    throw std::invalid_argument("targets are too few or too many");
  for (size_t i = 0; i < targets.length; i++)
    if (targets.data[i] < 0 || targets.data[i] >= engine.shape.vocabulary)
      throw std::invalid_argument("a target is outside of the vocabulary");
  engine.model->headBegin(targets.data, int64_t(targets.length), number(env, arguments[2]) != 0);
  return nullptr;
}

struct HeadArguments {
  Engine& engine;
  HeadPart part;
  const float* norm;
  Span<float> x;
  int64_t first, rows;
};

// (engine, norm, weights, start, x, first, ...): rows of the vocabulary from `start` on, rows of a call from `first` on
template <size_t N>
HeadArguments headArguments(napi_env env, const Arguments<N>& arguments) {
  Engine& engine = engineOf(env, arguments[0]);
  const int64_t hidden = engine.shape.hidden;
  const auto index = [&](napi_value value, int64_t most, const char* name) {
    const double given = number(env, value);
    if (!(given >= 0 && given <= double(most)) || given != std::floor(given))
      throw std::invalid_argument(std::string(name) + " is out of range");
    return int64_t(given);
  };
  const auto norm = floats(env, arguments[1], hidden, "norm");
  const int64_t start = index(arguments[3], engine.shape.vocabulary - 1, "start");
  size_t length = 0;
  if (napi_get_typedarray_info(env, arguments[2], nullptr, &length, nullptr, nullptr, nullptr) != napi_ok)
    throw std::invalid_argument("weights have the wrong type");
  const int64_t width = int64_t(length) / hidden, end = start + width;
  if (width < 1 || end > engine.shape.vocabulary || start % kHeadBlock != 0 ||
      (end % kHeadBlock != 0 && end != engine.shape.vocabulary))
    throw std::invalid_argument("weights are not whole blocks of the head");
  const Weights weights = weightsOf(env, arguments[2], width * hidden, "weights");
  const auto x = typedArray<float>(env, arguments[4], napi_float32_array, "x");
  const int64_t rows = rowsIn(x, hidden, engine.shape.batch * engine.shape.context, "x");
  const int64_t first = index(arguments[5], kMaxDimension, "first");
  return {engine, {weights, start, width}, norm.data, x, first, rows};
}

inline napi_value headForward(napi_env env, napi_callback_info info) {
  const auto [engine, part, norm, x, first, rows] = headArguments(env, Arguments<6>(env, info));
  engine.model->headForward(part, norm, x.data, first, rows);
  return nullptr;
}

// (engine, rowWeight, rowLosses): of all rows
inline napi_value headFinish(napi_env env, napi_callback_info info) {
  const Arguments<3> arguments(env, info);
  Engine& engine = engineOf(env, arguments[0]);
  const double rowWeight = number(env, arguments[1]);
  const auto losses = typedArray<float>(env, arguments[2], napi_float32_array, "rowLosses");
  engine.model->headFinish(float(rowWeight), int64_t(losses.length), losses.data);
  return nullptr;
}

// (engine, norm, weights, start, x, first, dNormalized, gradient, accumulate)
inline napi_value headBackward(napi_env env, napi_callback_info info) {
  const Arguments<9> arguments(env, info);
  const auto [engine, part, norm, x, first, rows] = headArguments(env, arguments);
  const auto dNormalized = floats(env, arguments[6], int64_t(x.length), "dNormalized");
  const auto gradient = floats(env, arguments[7], part.width * engine.shape.hidden, "gradient");
  const bool accumulate = number(env, arguments[8]) != 0;
  engine.model->headBackward(part, norm, x.data, first, rows, dNormalized.data, gradient.data, accumulate);
  return nullptr;
}

// (engine, norm, x, dStream, dNorm, accumulate)
inline napi_value headEnd(napi_env env, napi_callback_info info) {
  const Arguments<6> arguments(env, info);
  Engine& engine = engineOf(env, arguments[0]);
  const int64_t hidden = engine.shape.hidden;
  const auto norm = floats(env, arguments[1], hidden, "norm");
  const auto x = typedArray<float>(env, arguments[2], napi_float32_array, "x");
  const int64_t rows = rowsIn(x, hidden, engine.shape.batch * engine.shape.context, "x");
  const auto dStream = floats(env, arguments[3], int64_t(x.length), "dStream");
  const auto dNorm = floats(env, arguments[4], hidden, "dNorm");
  engine.model->headEnd(norm.data, x.data, rows, dStream.data, dNorm.data, number(env, arguments[5]) != 0);
  return nullptr;
}

}  // namespace alice
