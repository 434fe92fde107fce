/** Token sequences of a call, laid out in passes of a fixed number of sequences. */
import type { Preset } from '../model/preset.ts';
import { InvalidTokensError } from './engine.ts';

/** Number of sequences in `tokens`. Throws {@link InvalidTokensError} for a bad count or an id outside the vocabulary. */
export function countSequences({ vocabulary }: Preset, context: number, tokens: Int32Array): number {
  const sequences = tokens.length / (context + 1);
  if (!Number.isInteger(sequences) || sequences === 0)
    throw new InvalidTokensError(`${tokens.length} tokens are not sequences of ${context + 1}`);
  for (const token of tokens)
    if (token < 0 || token >= vocabulary)
      throw new InvalidTokensError(`token ${token} is outside of the vocabulary of ${vocabulary}`);
  return sequences;
}

/** One pass; rows are `batch * context`. */
export interface TokenPass {
  /** Sequences that are real; the rest repeat the first and count nothing. */
  readonly sequences: number;
  readonly inputs: Int32Array<ArrayBuffer>;
  readonly targets: BigInt64Array<ArrayBuffer>;
}

/** Cuts sequences into passes; a short last pass is filled up with its own first sequence. */
export function tokenPasses(tokens: Int32Array, batch: number, context: number): TokenPass[] {
  const sequences = tokens.length / (context + 1);
  const passes: TokenPass[] = [];
  for (let first = 0; first < sequences; first += batch) {
    const count = Math.min(batch, sequences - first);
    const inputs = new Int32Array(batch * context);
    const targets = new BigInt64Array(batch * context);
    for (let sequence = 0; sequence < batch; sequence++) {
      const start = (first + (sequence < count ? sequence : 0)) * (context + 1);
      for (let position = 0; position < context; position++) {
        const row = sequence * context + position;
        inputs[row] = tokens[start + position] as number;
        targets[row] = BigInt(tokens[start + position + 1] as number);
      }
    }
    passes.push({ sequences: count, inputs, targets });
  }
  return passes;
}
