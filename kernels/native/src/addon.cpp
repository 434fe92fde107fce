// The Node-API side: every argument is checked here against the shape that the engine was made for; behind this file,
// lengths are trusted. Calls are synchronous, so that no array can be detached or resized while it is used.
#include <system_error>

#include "difference-calls.h"
#include "engine.h"
#include "optimizer.h"
#include "processor.h"
#include "reading.h"
#include "streaming.h"

namespace alice {
namespace {

#ifndef ALICE_ISA
#error "build.ts names the instruction set"
#endif

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
  engine.model->block({weights.data, engine.layout.block}, x.data, y.data, int64_t(x.length / sequence));
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
  const PhaseScope phase(engine.model->clock(), Phase::optimizer);
  napi_value result;
  check(napi_create_double(env, sumOfSquares(engine.pool, values.data, int64_t(values.length)), &result));
  return result;
}

// (engine, weights, gradient, mean, square, constants)
napi_value step(napi_env env, napi_callback_info info) {
  const Arguments<6> arguments(env, info);
  const napi_value o = arguments[5];
  checkObject(env, o);
  // First, as a getter may do anything: close the engine, or take an array's memory away.
  const auto constant = [&](const char* name) { return float(property(env, o, name)); };
  const AdamWConstants constants{constant("beta1"),          constant("beta2"),           constant("epsilon"),
                                 constant("clip"),           constant("meanCorrection"), constant("squareCorrection"),
                                 constant("keep")};
  Engine& engine = engineOf(env, arguments[0]);
  const auto weights = typedArray<float>(env, arguments[1], napi_float32_array, "weights");
  const int64_t length = int64_t(weights.length);
  const auto gradient = floats(env, arguments[2], length, "gradient");
  const auto mean = floats(env, arguments[3], length, "mean");
  const auto square = floats(env, arguments[4], length, "square");
  const PhaseScope phase(engine.model->clock(), Phase::optimizer);
  adamW(engine.pool, weights.data, gradient.data, mean.data, square.data, length, constants);
  return nullptr;
}

// (engine) -> seconds by phase since the call before
napi_value profile(napi_env env, napi_callback_info info) {
  const Arguments<1> arguments(env, info);
  PhaseClock& clock = engineOf(env, arguments[0]).model->clock();
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
  checkObject(env, arguments[1]);
  const int64_t size = integer(env, arguments[1], "size", 1, 4096);
  const int64_t repeats = integer(env, arguments[1], "repeats", 1, 1000);
  Engine& engine = engineOf(env, arguments[0]);
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
  } catch (const std::system_error& error) {
    return fail((std::string("no thread can be started: ") + error.what()).c_str(), "ERR_NATIVE_MEMORY");
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
  define<blockForward>(env, exports, "blockForward");
  define<blockBackward>(env, exports, "blockBackward");
  define<headBegin>(env, exports, "headBegin");
  define<headForward>(env, exports, "headForward");
  define<headFinish>(env, exports, "headFinish");
  define<headBackward>(env, exports, "headBackward");
  define<headEnd>(env, exports, "headEnd");
  define<alice::read>(env, exports, "read");
#if ALICE_HAS_BF16
  napi_value differences;
  check(napi_create_object(env, &differences));
  define<differenceBase>(env, differences, "base");
  define<differenceBlock>(env, differences, "block");
  define<differenceHead>(env, differences, "head");
  define<differenceHeadVariant>(env, differences, "headVariant");
  define<differenceHeadColumns>(env, differences, "headColumns");
  define<differenceLosses>(env, differences, "losses");
  define<differenceEnd>(env, differences, "end");
  check(napi_set_named_property(env, exports, "differences", differences));
#endif
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
