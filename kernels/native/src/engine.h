// An engine as JavaScript holds it: a model, the threads that run it, and the checks of the shape that it is made for.
#pragma once
#include "arguments.h"
#include "model.h"
#include "variants.h"

namespace alice {

// FNV-1a.
constexpr uint64_t hashOf(const char* text) {
  uint64_t hash = 0xcbf29ce484222325;
  for (; *text != 0; text++) hash = (hash ^ uint8_t(*text)) * 0x100000001b3;
  return hash;
}
// An engine belongs to the library that made it.
constexpr napi_type_tag kEngineTag = {0x6d1c35e0b2f94a07, hashOf(ALICE_ISA)};

// A dimension that is larger than any preset's and small enough that products of three fit 63 bits.
constexpr int64_t kMaxDimension = int64_t(1) << 24;
constexpr int64_t kMaxParameters = int64_t(1) << 40;
// The angles of all positions of a head are computed when an engine is made.
constexpr int64_t kMaxAngles = int64_t(1) << 26;

struct Engine {
  Shape shape;
  Layout layout;
  Pool pool;
  std::unique_ptr<Model> model;
#if ALICE_HAS_BF16
  // Made when first used.
  std::unique_ptr<Differences<Bf16>> differences;
#endif

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

inline Engine& engineOf(napi_env env, napi_value value) {
  checkObject(env, value);
  bool is = false;
  void* data = nullptr;
  if (napi_check_object_type_tag(env, value, &kEngineTag, &is) != napi_ok || !is ||
      napi_unwrap(env, value, &data) != napi_ok || data == nullptr)
    throw std::invalid_argument("not an engine, or a closed one");
  return *static_cast<Engine*>(data);
}

inline Shape shapeOf(napi_env env, napi_value o) {
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
  if (s.context * (s.hidden / s.queryHeads) > kMaxAngles) throw std::invalid_argument("the shape is too large");
  if (s.batch * s.context > kMaxDimension || s.batch * s.context * std::max(s.ffn, s.hidden) > kMaxParameters)
    throw std::invalid_argument("the batch is too large");
  if (Layout(s).length > kMaxParameters) throw std::invalid_argument("the shape is too large");
  return s;
}

}  // namespace alice
