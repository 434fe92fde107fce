/**
 * What it costs to evaluate 20 sparse updates together: `alice-50m`, 4 sequences of 256 tokens; k = 64 of every 4096
 * elements in 2 bits, decoded from AGF1 and made into changes of weights beforehand.
 *
 * A separate evaluation is what a validator does that shares nothing: loss before, change made, loss after, change taken
 * back. That is two passes over the model for each update; together it is one for each and one for all, 21 of 40 passes,
 * so that sharing alone leads to 52.5 %. `bare_forward_ratio` sets the same time beside the 20 losses after only.
 */
import { availableParallelism } from 'node:os';
import { scoringVariant } from '../kernels/aggregate/apply.ts';
import type { Engine } from '../kernels/engine/engine.ts';
import { createEngine } from '../kernels/engine/onnx-engine.ts';
import { applyDelta, type SparseDelta } from '../kernels/engine/sparse-delta.ts';
import { decodeUpdate } from '../kernels/gradient/agf1.ts';
import { compressUpdate } from '../kernels/gradient/compress.ts';
import { initialWeights } from '../kernels/model/initialize.ts';
import { presets } from '../kernels/model/preset.ts';
import type { BenchmarkOptions, BenchmarkResult } from './benchmark.ts';
import { compare, ratioOf, secondsOf } from './measure.ts';
import { syntheticGradient } from './submissions/synthetic.ts';

/** One line for the list of benchmarks. */
export const describe = 'evaluating 20 sparse updates together, against one by one';

const UPDATES = 20;
const SEQUENCES = 4;
const CONTEXT = 256;
/** Factor on an update when it is tried: a fifth of an outer step of 1.3. */
const STEP = 0.26;
/** Each takes about 15 s on two cores. */
const TURNS = 3;

/** The two ways of evaluating did not give the same. */
class UnequalLossesError extends Error {
  static readonly code = 'ERR_UNEQUAL_LOSSES';
  readonly code = UnequalLossesError.code;
  override readonly name = 'UnequalLossesError';
}

/** Updates as validators get them, through AGF1 and back. */
function syntheticUpdates({ layout, weights }: Engine): SparseDelta[] {
  const values = syntheticGradient(2048, 2048, 7);
  return Array.from({ length: UPDATES }, (_, i) => {
    // Every update starts elsewhere in the values.
    const delta = new Float32Array(weights.length);
    for (let at = 0, from = i * 100_003; at < delta.length; from = 0) {
      const part = values.subarray(from, from + delta.length - at);
      delta.set(part, at);
      at += part.length;
    }
    const author = i.toString(16).padStart(64, '0');
    const bytes = compressUpdate({
      layout,
      delta,
      errorFeedback: new Float32Array(delta.length),
      options: { topK: 64, valueBits: 2, decay: 0.95 },
      header: { round: 1, author, modelRoot: '0'.repeat(64), presetHash: '0'.repeat(64) },
    });
    const limits = { maxBytes: bytes.length, maxEntries: delta.length };
    return scoringVariant(decodeUpdate(bytes, { layout, limits }), layout, { clipScale: 1, step: STEP });
  });
}

/** Measures; times are of all 20 updates. Throws when the two ways do not give the same to the bit. */
export async function run({ signal, progress }: BenchmarkOptions): Promise<BenchmarkResult> {
  const preset = presets['alice-50m'];
  const engine = createEngine({ preset, threads: availableParallelism(), batch: SEQUENCES, context: CONTEXT });
  try {
    engine.loadWeights(initialWeights(preset, new Uint8Array(32).fill(7)));
    progress(`${UPDATES} updates`);
    const updates = syntheticUpdates(engine);
    const length = SEQUENCES * (CONTEXT + 1);
    const tokens = Int32Array.from({ length }, (_, i) => (i * 7919) % preset.vocabulary);
    let separate: Float64Array[] = [];
    let together: Float64Array[] = [];
    /** Of the losses after, for each run of `separate_s`. */
    const afterSeconds: number[] = [];
    progress('evaluating');
    const times = await compare(
      {
        separate_s: () =>
          secondsOf(async () => {
            separate = [];
            let seconds = 0;
            for (const update of updates) {
              const before = await engine.losses(tokens, { signal });
              if (separate.length === 0) separate.push(before);
              const undo = applyDelta(engine.weights, update, 0);
              try {
                seconds += await secondsOf(async () => separate.push(await engine.losses(tokens, { signal })));
              } finally {
                undo();
              }
            }
            afterSeconds.push(seconds);
          }),
        together_s: () =>
          secondsOf(async () => {
            const { base, variants } = await engine.variantLosses(tokens, updates, { signal });
            together = [base, ...variants.filter((losses) => losses !== undefined)];
          }),
      },
      { turns: TURNS, signal },
    );
    const differing = separate.filter((losses, i) => losses.some((loss, j) => loss !== together[i]?.[j])).length;
    if (differing > 0 || separate.length !== together.length)
      throw new UnequalLossesError(`${differing} of ${separate.length} evaluations differ from those made one by one`);
    const bare = { ...times, samples: { ...times.samples, bare_s: afterSeconds.slice(-TURNS) } };
    const seconds = Object.entries(times.summaries).map(([name, { median }]) => [name, median]);
    return {
      figures: {
        batch_cost_ratio: ratioOf(times, 'together_s', 'separate_s').median,
        bare_forward_ratio: ratioOf(bare, 'together_s', 'bare_s').median,
        ...Object.fromEntries(seconds),
        updates: UPDATES,
        changed_share: (updates[0]?.indices.length ?? 0) / engine.weights.length,
        equal_to_the_bit: true,
        spread: times.summaries.together_s?.spread ?? null,
      },
      notes: [
        'separate: loss before and after each update, 40 passes over the model; together: 21 passes, layer by layer',
        'bare_forward_ratio: against the 20 losses after alone, 20 passes',
        'random weights and heavy-tailed random updates; every update changes every tensor',
      ],
    };
  } finally {
    await engine.close();
  }
}
