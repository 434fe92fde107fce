// Arguments of Node-API callbacks, checked: what does not fit throws std::invalid_argument.
#pragma once
#define NAPI_VERSION 8
#include <node_api.h>

#include <cmath>
#include <stdexcept>
#include <string>

namespace alice {

inline void check(napi_status status) {
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

inline double number(napi_env env, napi_value value) {
  double result;
  check(napi_get_value_double(env, value, &result));
  return result;
}

// Node-API converts what is no object, or throws an error of its own.
inline void checkObject(napi_env env, napi_value value) {
  napi_valuetype type;
  if (napi_typeof(env, value, &type) != napi_ok || type != napi_object)
    throw std::invalid_argument("an argument is not an object");
}

inline double property(napi_env env, napi_value object, const char* name) {
  napi_value value;
  check(napi_get_named_property(env, object, name, &value));
  return number(env, value);
}

inline int64_t integer(napi_env env, napi_value object, const char* name, int64_t least, int64_t most) {
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
  // Node leaves it as it is for kinds of arrays that it does not know.
  napi_typedarray_type type = napi_typedarray_type(-1);
  void* data = nullptr;
  size_t length = 0;
  if (napi_is_typedarray(env, value, &is) != napi_ok || !is ||
      napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr) != napi_ok || type != expected)
    throw std::invalid_argument(std::string(name) + " has the wrong type");
  return {static_cast<T*>(data), length};
}

inline Span<float> floats(napi_env env, napi_value value, int64_t length, const char* name) {
  const auto span = typedArray<float>(env, value, napi_float32_array, name);
  if (int64_t(span.length) != length)
    throw std::invalid_argument(std::string(name) + " must have " + std::to_string(length) + " elements, not " +
                                std::to_string(span.length));
  return span;
}

}  // namespace alice
