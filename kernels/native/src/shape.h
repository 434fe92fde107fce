// What a model is made of, and where its tensors lie.
#pragma once
#include <cstdint>

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

}  // namespace alice
