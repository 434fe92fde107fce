// Weights read from files by a thread of the runtime's pool while others compute: checked against the checksums of their
// pieces, and rounded to bfloat16 on the way where that is wanted.
#pragma once
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include "arguments.h"
#include "arch.h"

// zlib's, which the runtime exports.
extern "C" unsigned long crc32(unsigned long sum, const unsigned char* bytes, unsigned length);

namespace alice {

// A tensor's part: whole pieces of `pieceBytes` from `position` on, the last one perhaps shorter.
struct ReadPart {
  int file;
  int64_t position, bytes, pieceBytes;
  const uint32_t* sums;
  // The numbers as they are, or rounded.
  void* to;
  bool rounds;
  // What lies in the file, whose checksums are zlib's then; else what was rounded before.
  bool ofFloats;
  // Where rounded ones go as well, with checksums of their own; or -1.
  int copyFile;
  int64_t copyPosition;
  uint32_t* copySums;
};

// Of a copy that no other program reads: several times faster than CRC-32, and no change of one word goes unseen.
inline uint32_t laneSum(const unsigned char* bytes, int64_t count) {
  constexpr int kSums = 64;
  uint32_t sums[kSums] = {};
  int64_t at = 0;
  for (; at + int64_t(sizeof sums) <= count; at += int64_t(sizeof sums)) {
    uint32_t words[kSums];
    memcpy(words, bytes + at, sizeof words);
#pragma omp simd
    for (int i = 0; i < kSums; i++) sums[i] = (sums[i] ^ words[i]) * 0x9e3779b1u;
  }
  uint32_t sum = uint32_t(count);
  for (; at < count; at++) sum = (sum ^ bytes[at]) * 0x9e3779b1u;
  for (const uint32_t lane : sums) sum = ((sum ^ lane) * 0x9e3779b1u) ^ (sum >> 15);
  return sum;
}

enum class ReadProblem { kNone, kTooShort, kDamaged, kSystem };

class Reading {
 public:
  std::vector<ReadPart> parts;
  // What the arrays above belong to.
  std::vector<napi_ref> held;
  napi_async_work work = nullptr;
  napi_deferred deferred = nullptr;
  ReadProblem problem = ReadProblem::kNone;
  size_t failedPart = 0;
  int systemError = 0;

  void run() {
    for (failedPart = 0; failedPart < parts.size(); failedPart++) {
      problem = readPart(parts[failedPart]);
      if (problem != ReadProblem::kNone) return;
    }
  }

 private:
  // Bytes that go through the caches together.
  static constexpr int64_t kBatchBytes = int64_t(1) << 20;

  // Some pieces at a time.
  ReadProblem readPart(const ReadPart& part) {
    const int64_t pieces = std::max<int64_t>(1, kBatchBytes / part.pieceBytes), batch = pieces * part.pieceBytes;
    if (part.rounds) batch_.resize(size_t(std::min(batch, part.bytes)));
    for (int64_t at = 0, piece = 0; at < part.bytes; at += batch, piece += pieces) {
      const int64_t count = std::min(batch, part.bytes - at);
      unsigned char* to = part.rounds ? batch_.data() : static_cast<unsigned char*>(part.to) + at;
      const ReadProblem read = fill(part, at, count, to);
      if (read != ReadProblem::kNone) return read;
      for (int64_t done = 0; done < count; done += part.pieceBytes) {
        const int64_t length = std::min(part.pieceBytes, count - done);
        const uint32_t sum = part.ofFloats ? uint32_t(crc32(0, to + done, unsigned(length))) : laneSum(to + done, length);
        if (sum != part.sums[piece + done / part.pieceBytes]) return ReadProblem::kDamaged;
      }
      if (part.rounds && !round(part, at, count, piece)) return ReadProblem::kSystem;
    }
    return ReadProblem::kNone;
  }

  bool round(const ReadPart& part, int64_t at, int64_t count, int64_t piece) {
    uint16_t* rounded = static_cast<uint16_t*>(part.to) + at / 4;
    const unsigned char* from = batch_.data();
#pragma omp simd
    for (int64_t i = 0; i < count / 4; i++) {
      float value;
      memcpy(&value, from + 4 * i, sizeof value);
      rounded[i] = uint16_t(roundedBits(value) >> 16);
    }
    if (part.copyFile < 0) return true;
    const auto* bytes = reinterpret_cast<const unsigned char*>(rounded);
    for (int64_t done = 0; done < count; done += part.pieceBytes)
      part.copySums[piece + done / part.pieceBytes] =
          laneSum(bytes + done / 2, std::min(part.pieceBytes, count - done) / 2);
    return writeAll(part.copyFile, bytes, count / 2, part.copyPosition + at / 2);
  }

  ReadProblem fill(const ReadPart& part, int64_t at, int64_t count, unsigned char* to) {
    for (int64_t done = 0; done < count;) {
      const ssize_t got = pread(part.file, to + done, size_t(count - done), part.position + at + done);
      if (got == 0) return ReadProblem::kTooShort;
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return failed();
      done += got;
    }
    return ReadProblem::kNone;
  }

  bool writeAll(int file, const unsigned char* bytes, int64_t count, int64_t position) {
    for (int64_t done = 0; done < count;) {
      const ssize_t wrote = pwrite(file, bytes + done, size_t(count - done), position + done);
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote < 0) return failed() == ReadProblem::kNone;
      done += wrote;
    }
    return true;
  }

  ReadProblem failed() {
    systemError = errno;
    return ReadProblem::kSystem;
  }

  std::vector<unsigned char> batch_;
};

// One part, from {file, position, pieceBytes, sums, to, rounds[, copy: {file, position, sums}]}. `to` is a Float32Array,
// or a Uint16Array: of bfloat16 as they lie in the file or, if `rounds` is 1, of float32 that lie there.
inline ReadPart readPartOf(napi_env env, napi_value object, std::vector<napi_ref>& held) {
  checkObject(env, object);
  const auto field = [&](napi_value from, const char* name) {
    napi_value value;
    check(napi_get_named_property(env, from, name, &value));
    return value;
  };
  const auto hold = [&](napi_value value) {
    napi_ref reference;
    check(napi_create_reference(env, value, 1, &reference));
    held.push_back(reference);
    return value;
  };
  constexpr int64_t kMost = int64_t(1) << 52;
  ReadPart part{};
  part.file = int(integer(env, object, "file", 0, INT32_MAX));
  part.position = integer(env, object, "position", 0, kMost);
  part.pieceBytes = integer(env, object, "pieceBytes", 4, 1 << 30);
  if (part.pieceBytes % 4 != 0) throw std::invalid_argument("pieces are not whole numbers");
  const napi_value to = hold(field(object, "to")), copy = field(object, "copy");
  napi_valuetype type;
  check(napi_typeof(env, copy, &type));
  part.rounds = integer(env, object, "rounds", 0, 1) == 1;
  bool is = false;
  napi_typedarray_type kind = napi_float32_array;
  size_t length = 0;
  if (napi_is_typedarray(env, to, &is) != napi_ok || !is ||
      napi_get_typedarray_info(env, to, &kind, &length, &part.to, nullptr, nullptr) != napi_ok ||
      (kind != napi_uint16_array && (kind != napi_float32_array || part.rounds)))
    throw std::invalid_argument("`to` has the wrong type");
  part.ofFloats = part.rounds || kind == napi_float32_array;
  part.bytes = int64_t(length) * (part.ofFloats ? 4 : 2);
  const size_t pieces = size_t((part.bytes + part.pieceBytes - 1) / part.pieceBytes);
  const auto sumsOf = [&](napi_value from) {
    const auto sums = typedArray<uint32_t>(env, hold(field(from, "sums")), napi_uint32_array, "sums");
    if (sums.length != pieces) throw std::invalid_argument("sums are not one a piece");
    return sums.data;
  };
  part.sums = sumsOf(object);
  part.copyFile = -1;
  if (!part.rounds || type != napi_object) return part;
  part.copyFile = int(integer(env, copy, "file", 0, INT32_MAX));
  part.copyPosition = integer(env, copy, "position", 0, kMost);
  part.copySums = sumsOf(copy);
  return part;
}

inline void releaseAll(napi_env env, std::vector<napi_ref>& held) {
  for (const napi_ref reference : held) napi_delete_reference(env, reference);
  held.clear();
}

// Back on JavaScript's thread.
inline void finishReading(napi_env env, napi_status, void* data) {
  const std::unique_ptr<Reading> reading(static_cast<Reading*>(data));
  napi_handle_scope scope;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return;
  releaseAll(env, reading->held);
  napi_delete_async_work(env, reading->work);
  napi_value result, text, error;
  if (reading->problem == ReadProblem::kSystem) {
    const char* said = strerror(reading->systemError);
    if (napi_create_string_utf8(env, said, NAPI_AUTO_LENGTH, &text) == napi_ok &&
        napi_create_error(env, nullptr, text, &error) == napi_ok)
      napi_reject_deferred(env, reading->deferred, error);
  } else if (reading->problem == ReadProblem::kNone) {
    if (napi_get_undefined(env, &result) == napi_ok) napi_resolve_deferred(env, reading->deferred, result);
  } else if (napi_create_double(env, double(reading->failedPart), &result) == napi_ok) {
    napi_resolve_deferred(env, reading->deferred, result);
  }
  napi_close_handle_scope(env, scope);
}

// (parts) -> promise of undefined, or of the number of the first part that is damaged or cut off
inline napi_value read(napi_env env, napi_callback_info info) {
  const Arguments<1> arguments(env, info);
  auto reading = std::make_unique<Reading>();
  try {
    uint32_t count = 0;
    if (napi_get_array_length(env, arguments[0], &count) != napi_ok) throw std::invalid_argument("no array of parts");
    for (uint32_t i = 0; i < count; i++) {
      napi_value part;
      check(napi_get_element(env, arguments[0], i, &part));
      reading->parts.push_back(readPartOf(env, part, reading->held));
    }
    napi_value promise, name;
    check(napi_create_string_utf8(env, "alice:read", NAPI_AUTO_LENGTH, &name));
    check(napi_create_promise(env, &reading->deferred, &promise));
    check(napi_create_async_work(
        env, nullptr, name, [](napi_env, void* data) { static_cast<Reading*>(data)->run(); }, finishReading,
        reading.get(), &reading->work));
    check(napi_queue_async_work(env, reading->work));
    reading.release();
    return promise;
  } catch (...) {
    releaseAll(env, reading->held);
    throw;
  }
}

}  // namespace alice
