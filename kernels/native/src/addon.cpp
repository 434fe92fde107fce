// The Node-API side: every argument is checked here against the shape that the engine was made for; behind this file,
// lengths are trusted. Calls are synchronous, so that no array can be detached or resized while it is used.
#define NAPI_VERSION 8
#include <node_api.h>

#include <stdexcept>
#include <string>

#include "model.h"
#include "optimizer.h"
#include "processor.h"

namespace alice {
namespace {

#ifndef ALICE_ISA
#error "build.ts names the instruction set"
#endif

constexpr napi_type_tag kEngineTag = {0x6d1c35e0b2f94a07, 0x9a4e17c8d05bf263};

// A dimension that is larger than any preset's and small enough that products of three fit 63 bits.
constexpr int64_t kMaxDimension = int64_t(1) << 24;
constexpr int64_t kMaxParameters = int64_t(1) << 40;

struct Engine {
  Shape shape;
  Layout layout;
  Pool pool;
  std::unique_ptr<Model> model;

  Engine(const Shape& s, int threads, bool bf16) : shape(s), layout(s), pool(threads) {
#if ALICE_HAS_BF16
    if (bf16) {
      model = std::make_unique<ModelOf<Bf16>>(s, pool);
      return;
    }
#endif
    if (bf16) throw std::invalid_argument("this instruction set has no bf16");
    model = std::make_unique<ModelOf<float>>(s, pool);
  }
};

void check(napi_status status) {
  if (status != napi_ok) throw std::invalid_argument("an argument has the wrong type");
}

template <size_t N>
struct Arguments {
  napi_value values[N];
  Arguments(napi_env env, napi_callback_info info) {
    size_t count = N;
    check(napi_get_cb_info(env, info, &count, values, nullptr, nullptr));
    if (count < N) throw std::invalid_argument("too few arguments");
  }
  napi_value operator[](size_t i) const { return values[i]; }
};

double number(napi_env env, napi_value value) {
  double result;
  check(napi_get_value_double(env, value, &result));
  return result;
}

// Node-API converts what is no object, or throws an error of its own.
void checkObject(napi_env env, napi_value value) {
  napi_valuetype type;
  if (napi_typeof(env, value, &type) != napi_ok || type != napi_object)
    throw std::invalid_argument("an argument is not an object");
}

double property(napi_env env, napi_value object, const char* name) {
  napi_value value;
  check(napi_get_named_property(env, object, name, &value));
  return number(env, value);
}

int64_t integer(napi_env env, napi_value object, const char* name, int64_t least, int64_t most) {
  const double value = property(env, object, name);
  if (!(value >= double(least) && value <= double(most)) || value != std::floor(value))
    throw std::invalid_argument(std::string(name) + " must be an integer from " + std::to_string(least) + " to " +
                                std::to_string(most));
  return int64_t(value);
}

template <class T>
struct Span {
  T* data;
  size_t length;
};

template <class T>
Span<T> typedArray(napi_env env, napi_value value, napi_typedarray_type expected, const char* name) {
  bool is = false;
  napi_typedarray_type type = expected;
  void* data = nullptr;
  size_t length = 0;
  if (napi_is_typedarray(env, value, &is) != napi_ok || !is ||
      napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr) != napi_ok || type != expected)
    throw std::invalid_argument(std::string(name) + " has the wrong type");
  return {static_cast<T*>(data), length};
}

Span<float> floats(napi_env env, napi_value value, int64_t length, const char* name) {
  const auto span = typedArray<float>(env, value, napi_float32_array, name);
  if (int64_t(span.length) != length)
    throw std::invalid_argument(std::string(name) + " must have " + std::to_string(length) + " elements, not " +
                                std::to_string(span.length));
  return span;
}

Engine& engineOf(napi_env env, napi_value value) {
  checkObject(env, value);
  bool is = false;
  void* data = nullptr;
  if (napi_check_object_type_tag(env, value, &kEngineTag, &is) != napi_ok || !is ||
      napi_unwrap(env, value, &data) != napi_ok || data == nullptr)
    throw std::invalid_argument("not an engine, or a closed one");
  return *static_cast<Engine*>(data);
}

Shape shapeOf(napi_env env, napi_value o) {
  Shape s;
  const auto dimension = [&](const char* name) { return integer(env, o, name, 1, kMaxDimension); };
  s.vocabulary = dimension("vocabulary");
  s.hidden = dimension("hidden");
  s.layers = integer(env, o, "layers", 1, 1024);
  s.queryHeads = integer(env, o, "queryHeads", 1, 1024);
  s.keyValueHeads = integer(env, o, "keyValueHeads", 1, 1024);
  s.ffn = dimension("ffn");
  s.context = dimension("context");
  s.batch = dimension("batch");
  s.ropeTheta = property(env, o, "ropeTheta");
  s.epsilon = property(env, o, "normEpsilon");
  s.tied = integer(env, o, "tied", 0, 1) == 1;
  s.recompute = integer(env, o, "recompute", 0, 1) == 1;
  s.headBytes = integer(env, o, "headBytes", 1, int64_t(1) << 40);
  if (s.hidden % s.queryHeads != 0 || s.hidden / s.queryHeads % 2 != 0 || s.queryHeads % s.keyValueHeads != 0)
    throw std::invalid_argument("heads do not divide the width evenly");
  if (!(s.ropeTheta >= 1 && std::isfinite(s.ropeTheta)) || !(s.epsilon > 0 && s.epsilon <= 1))
    throw std::invalid_argument("ropeTheta or normEpsilon is out of range");
  // Products of three dimensions stay within 63 bits when each of two does within 40.
  for (const int64_t other : {s.hidden, s.ffn, s.vocabulary, s.context})
    if (other * s.hidden > kMaxParameters) throw std::invalid_argument("the shape is too large");
  if (s.batch * s.context > kMaxDimension || s.batch * s.context * std::max(s.ffn, s.hidden) > kMaxParameters)
    throw std::invalid_argument("the batch is too large");
  if (Layout(s).length > kMaxParameters) throw std::invalid_argument("the shape is too large");
  return s;
}

napi_value create(napi_env env, napi_callback_info info) {
  const Arguments<1> arguments(env, info);
  checkObject(env, arguments[0]);
  const Shape shape = shapeOf(env, arguments[0]);
  const int threads = int(integer(env, arguments[0], "threads", 1, 1024));
  const bool bf16 = integer(env, arguments[0], "bf16", 0, 1) == 1;
  auto engine = std::make_unique<Engine>(shape, threads, bf16);
  napi_value object;
  check(napi_create_object(env, &object));
  check(napi_type_tag_object(env, object, &kEngineTag));
  check(napi_wrap(
      env, object, engine.get(), [](napi_env, void* data, void*) { delete static_cast<Engine*>(data); }, nullptr,
      nullptr));
  engine.release();
  return object;
}

napi_value close(napi_env env, napi_callback_info info) {
  const Arguments<1> arguments(env, info);
  Engine* engine = &engineOf(env, arguments[0]);
  void* data;
  check(napi_remove_wrap(env, arguments[0], &data));
  delete engine;
  return nullptr;
}

// Ids of up to `batch` sequences, copied and checked.
std::vector<int32_t> tokensOf(napi_env env, napi_value value, const Shape& shape) {
  const auto span = typedArray<int32_t>(env, value, napi_int32_array, "tokens");
  const size_t length = size_t(shape.context) + 1;
  if (span.length == 0 || span.length % length != 0 || span.length / length > size_t(shape.batch))
    throw std::invalid_argument("tokens are not one to `batch` sequences of context + 1");
  std::vector<int32_t> tokens(span.data, span.data + span.length);
  for (const int32_t token : tokens)
    if (token < 0 || token >= shape.vocabulary) throw std::invalid_argument("a token is outside of the vocabulary");
  return tokens;
}

// (engine, weights, tokens, rowLosses)
napi_value losses(napi_env env, napi_callback_info info) {
  const Arguments<4> arguments(env, info);
  Engine& engine = engineOf(env, arguments[0]);
  const auto weights = floats(env, arguments[1], engine.layout.length, "weights");
  const auto tokens = tokensOf(env, arguments[2], engine.shape);
  const int64_t sequences = int64_t(tokens.size()) / (engine.shape.context + 1);
  const auto rows = floats(env, arguments[3], sequences * engine.shape.context, "rowLosses");
  engine.model->losses(weights.data, tokens.data(), sequences, rows.data);
  return nullptr;
}

// (engine, weights, tokens, rowLosses, rowWeight, gradient, accumulate)
napi_value train(napi_env env, napi_callback_info info) {
  const Arguments<7> arguments(env, info);
  Engine& engine = engineOf(env, arguments[0]);
  const auto weights = floats(env, arguments[1], engine.layout.length, "weights");
  const auto tokens = tokensOf(env, arguments[2], engine.shape);
  const int64_t sequences = int64_t(tokens.size()) / (engine.shape.context + 1);
  const auto rows = floats(env, arguments[3], sequences * engine.shape.context, "rowLosses");
  const double rowWeight = number(env, arguments[4]);
  const auto gradient = floats(env, arguments[5], engine.layout.length, "gradient");
  const bool accumulate = number(env, arguments[6]) != 0;
  engine.model->train(weights.data, tokens.data(), sequences, float(rowWeight), gradient.data, accumulate, rows.data);
  return nullptr;
}

// (engine, blockWeights, x, y): whole sequences
napi_value block(napi_env env, napi_callback_info info) {
  const Arguments<4> arguments(env, info);
  Engine& engine = engineOf(env, arguments[0]);
  const auto weights = floats(env, arguments[1], engine.layout.blockLength, "blockWeights");
  const auto x = typedArray<float>(env, arguments[2], napi_float32_array, "x");
  const size_t sequence = size_t(engine.shape.context * engine.shape.hidden);
  if (x.length == 0 || x.length % sequence != 0 || x.length / sequence > size_t(engine.shape.batch))
    throw std::invalid_argument("x is not one to `batch` sequences");
  const auto y = floats(env, arguments[3], int64_t(x.length), "y");
  engine.model->block(weights.data, x.data, y.data, int64_t(x.length / sequence));
  return nullptr;
}

// (engine, norm, head, x, targets, rowLosses)
napi_value headLosses(napi_env env, napi_callback_info info) {
  const Arguments<6> arguments(env, info);
  Engine& engine = engineOf(env, arguments[0]);
  const Shape& shape = engine.shape;
  const auto norm = floats(env, arguments[1], shape.hidden, "norm");
  const auto head = floats(env, arguments[2], shape.vocabulary * shape.hidden, "head");
  const auto ids = typedArray<int32_t>(env, arguments[4], napi_int32_array, "targets");
  const int64_t rows = int64_t(ids.length);
  if (rows == 0 || rows > shape.batch * shape.context) throw std::invalid_argument("targets are too few or too many");
  const auto x = floats(env, arguments[3], rows * shape.hidden, "x");
  const auto losses = floats(env, arguments[5], rows, "rowLosses");
  const std::vector<int32_t> targets(ids.data, ids.data + rows);
  for (const int32_t target : targets)
    if (target < 0 || target >= shape.vocabulary) throw std::invalid_argument("a target is outside of the vocabulary");
  engine.model->headLosses(norm.data, head.data, x.data, targets.data(), rows, losses.data);
  return nullptr;
}

// (engine, values) -> sum of squares
napi_value squares(napi_env env, napi_callback_info info) {
  const Arguments<2> arguments(env, info);
  Engine& engine = engineOf(env, arguments[0]);
  const auto values = typedArray<float>(env, arguments[1], napi_float32_array, "values");
  const PhaseScope phase(engine.model->clock, Phase::optimizer);
  napi_value result;
  check(napi_create_double(env, sumOfSquares(engine.pool, values.data, int64_t(values.length)), &result));
  return result;
}

// (engine, weights, gradient, mean, square, constants)
napi_value step(napi_env env, napi_callback_info info) {
  const Arguments<6> arguments(env, info);
  Engine& engine = engineOf(env, arguments[0]);
  const auto weights = typedArray<float>(env, arguments[1], napi_float32_array, "weights");
  const int64_t length = int64_t(weights.length);
  const auto gradient = floats(env, arguments[2], length, "gradient");
  const auto mean = floats(env, arguments[3], length, "mean");
  const auto square = floats(env, arguments[4], length, "square");
  const napi_value o = arguments[5];
  checkObject(env, o);
  const auto constant = [&](const char* name) { return float(property(env, o, name)); };
  const AdamWConstants constants{constant("beta1"),          constant("beta2"),           constant("epsilon"),
                                 constant("clip"),           constant("meanCorrection"), constant("squareCorrection"),
                                 constant("keep")};
  const PhaseScope phase(engine.model->clock, Phase::optimizer);
  adamW(engine.pool, weights.data, gradient.data, mean.data, square.data, length, constants);
  return nullptr;
}

// (engine) -> seconds by phase since the call before
napi_value profile(napi_env env, napi_callback_info info) {
  const Arguments<1> arguments(env, info);
  PhaseClock& clock = engineOf(env, arguments[0]).model->clock;
  napi_value object;
  check(napi_create_object(env, &object));
  for (int phase = 0; phase < kPhases; phase++) {
    napi_value seconds;
    check(napi_create_double(env, clock.seconds(Phase(phase)), &seconds));
    check(napi_set_named_property(env, object, kPhaseNames[phase], seconds));
  }
  clock.reset();
  return object;
}

// (engine, {size, repeats}) -> seconds
napi_value products(napi_env env, napi_callback_info info) {
  const Arguments<2> arguments(env, info);
  Engine& engine = engineOf(env, arguments[0]);
  checkObject(env, arguments[1]);
  const int64_t size = integer(env, arguments[1], "size", 1, 4096);
  const int64_t repeats = integer(env, arguments[1], "repeats", 1, 1000);
  napi_value result;
  check(napi_create_double(env, engine.model->products(size, repeats), &result));
  return result;
}

// Names of the instruction sets that this processor and its system can run.
napi_value supported(napi_env env, napi_callback_info) {
  const std::vector<const char*> names = supportedInstructionSets();
  napi_value array;
  check(napi_create_array(env, &array));
  for (size_t i = 0; i < names.size(); i++) {
    napi_value name;
    check(napi_create_string_utf8(env, names[i], NAPI_AUTO_LENGTH, &name));
    check(napi_set_element(env, array, uint32_t(i), name));
  }
  return array;
}

// No C++ exception leaves a callback.
template <napi_value (*Function)(napi_env, napi_callback_info)>
napi_value guarded(napi_env env, napi_callback_info info) {
  const auto fail = [&](const char* message, const char* code) {
    bool pending = false;
    if (napi_is_exception_pending(env, &pending) == napi_ok && !pending) napi_throw_error(env, code, message);
    return nullptr;
  };
  try {
    return Function(env, info);
  } catch (const std::bad_alloc&) {
    return fail("not enough memory", "ERR_NATIVE_MEMORY");
  } catch (const std::exception& error) {
    return fail(error.what(), "ERR_NATIVE_ARGUMENT");
  }
}

template <napi_value (*Function)(napi_env, napi_callback_info)>
void define(napi_env env, napi_value exports, const char* name) {
  napi_value function;
  check(napi_create_function(env, name, NAPI_AUTO_LENGTH, guarded<Function>, nullptr, &function));
  check(napi_set_named_property(env, exports, name, function));
}

}  // namespace
}  // namespace alice

NAPI_MODULE_INIT() {
  using namespace alice;
  define<create>(env, exports, "create");
  define<close>(env, exports, "close");
  define<losses>(env, exports, "losses");
  define<train>(env, exports, "train");
  define<block>(env, exports, "block");
  define<headLosses>(env, exports, "headLosses");
  define<squares>(env, exports, "squares");
  define<step>(env, exports, "step");
  define<profile>(env, exports, "profile");
  define<products>(env, exports, "products");
  define<supported>(env, exports, "supported");
  napi_value isa, bf16;
  check(napi_create_string_utf8(env, ALICE_ISA, NAPI_AUTO_LENGTH, &isa));
  check(napi_set_named_property(env, exports, "isa", isa));
  check(napi_get_boolean(env, kHasBf16, &bf16));
  check(napi_set_named_property(env, exports, "bf16", bf16));
  return exports;
}
