/**
 * What it costs to evaluate 20 sparse updates together: `alice-50m`, 4 sequences of 256 tokens; k = 64 of every 4096
 * elements in 2 bits, decoded from AGF1 and made into changes of weights beforehand.
 *
 * A separate evaluation is what a validator does that shares nothing: loss before, change made, loss after, change taken
 * back. That is two passes over the model for each update; together it is one for each and one for all, 21 of 40 passes,
 * so that sharing alone leads to 52.5 %: onnxruntime's engine does that. The native one, where it is built and the
 * processor has bf16, evaluates differences (docs/native.md), which cost less than a pass each.
 */
import { availableParallelism } from 'node:os';
import { scoringVariant } from '../kernels/aggregate/apply.ts';
import type { Engine } from '../kernels/engine/engine.ts';
import { createEngine, InvalidEngineOptionsError } from '../kernels/engine/onnx-engine.ts';
import { applyDelta, type SparseDelta } from '../kernels/engine/sparse-delta.ts';
import { decodeUpdate } from '../kernels/gradient/agf1.ts';
import { compressUpdate } from '../kernels/gradient/compress.ts';
import { initialWeights } from '../kernels/model/initialize.ts';
import { presets } from '../kernels/model/preset.ts';
import { NativeUnavailableError } from '../kernels/native/library.ts';
import { createNativeEngine, type NativeEngineOptions } from '../kernels/native/native-engine.ts';
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
/** Each takes 5 to 20 s on two cores. */
const TURNS = 2;
/** Most that a score may be off, nats: a tenth of the least improvement that must not be lost (MISSION 1). */
const TOLERANCE = 1e-4;

/** The two ways of evaluating did not give the same, or not nearly. */
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

/** An engine that evaluates both ways. Losses are those of the last time: `[1 + updates]` of each sequence. */
class Contender {
  readonly engine: Engine;
  separate: Float64Array[] = [];
  together: Float64Array[] = [];
  /** Of the losses after, for each run of `separately`. */
  readonly afterSeconds: number[] = [];

  constructor(engine: Engine) {
    this.engine = engine;
  }

  async separately(tokens: Int32Array, updates: readonly SparseDelta[], signal: AbortSignal): Promise<number> {
    let seconds = 0;
    const total = await secondsOf(async () => {
      this.separate = [];
      for (const update of updates) {
        const before = await this.engine.losses(tokens, { signal });
        if (this.separate.length === 0) this.separate.push(before);
        const undo = applyDelta(this.engine.weights, update, 0);
        try {
          seconds += await secondsOf(async () => this.separate.push(await this.engine.losses(tokens, { signal })));
        } finally {
          undo();
        }
      }
    });
    this.afterSeconds.push(seconds);
    return total;
  }

  async atOnce(tokens: Int32Array, updates: readonly SparseDelta[], signal: AbortSignal): Promise<number> {
    return await secondsOf(async () => {
      const { base, variants } = await this.engine.variantLosses(tokens, updates, { signal });
      this.together = [base, ...variants.filter((losses) => losses !== undefined)];
    });
  }

  /** Most that a score, the mean loss before minus that after, differs between the two ways, nats. */
  worstDeviation(): number {
    const scores = (losses: readonly Float64Array[]) => losses.slice(1).map((after) => mean(losses[0]) - mean(after));
    const [expected, actual] = [scores(this.separate), scores(this.together)];
    if (actual.length !== expected.length)
      throw new UnequalLossesError(`${actual.length} of ${expected.length} updates have losses`);
    return Math.max(...expected.map((score, i) => Math.abs(score - (actual[i] ?? Number.NaN))));
  }
}

function mean(values: Float64Array = new Float64Array(0)): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** The native engine in fp32, where it is built and evaluates differences. */
function nativeEngine(options: NativeEngineOptions): Engine | undefined {
  try {
    return createNativeEngine({ ...options, variants: 'differences' });
  } catch (error) {
    if (error instanceof NativeUnavailableError || error instanceof InvalidEngineOptionsError) return undefined;
    throw error;
  }
}

/**
 * Measures; times are of all 20 updates. Throws when an engine's two ways differ: onnxruntime's by a bit, the native one's
 * by 1e-4 nats.
 */
export async function run({ signal, progress }: BenchmarkOptions): Promise<BenchmarkResult> {
  const preset = presets['alice-50m'];
  const options = { preset, threads: availableParallelism(), batch: SEQUENCES, context: CONTEXT };
  const onnx = new Contender(createEngine(options));
  const nativeOrNone = nativeEngine(options);
  const native = nativeOrNone && new Contender(nativeOrNone);
  try {
    progress(`${UPDATES} updates`);
    const weights = initialWeights(preset, new Uint8Array(32).fill(7));
    for (const { engine } of [onnx, ...(native ? [native] : [])]) engine.loadWeights(weights);
    const updates = syntheticUpdates(onnx.engine);
    const length = SEQUENCES * (CONTEXT + 1);
    const tokens = Int32Array.from({ length }, (_, i) => (i * 7919) % preset.vocabulary);
    progress('evaluating');
    const times = await compare(
      {
        onnxruntime_separate_s: () => onnx.separately(tokens, updates, signal),
        onnxruntime_together_s: () => onnx.atOnce(tokens, updates, signal),
        ...(native && {
          native_separate_s: () => native.separately(tokens, updates, signal),
          native_together_s: () => native.atOnce(tokens, updates, signal),
        }),
      },
      { turns: TURNS, signal },
    );
    const differing = onnx.separate.filter((losses, i) =>
      losses.some((loss, j) => loss !== onnx.together[i]?.[j]),
    ).length;
    if (differing > 0 || onnx.worstDeviation() !== 0)
      throw new UnequalLossesError(
        `${differing} of ${onnx.separate.length} evaluations differ from those made one by one`,
      );
    const worst = native?.worstDeviation() ?? null;
    if (worst !== null && !(worst <= TOLERANCE))
      throw new UnequalLossesError(`a score is ${worst} nats away from the one evaluated by itself`);
    const bare = { ...times, samples: { ...times.samples, bare_s: (native ?? onnx).afterSeconds.slice(-TURNS) } };
    const ours = native === undefined ? 'onnxruntime' : 'native';
    const ratio = (above: string, below: string) => ratioOf(times, above, below).median;
    const bareRatio = ratioOf(bare, `${ours}_together_s`, 'bare_s').median;
    const scores = onnx.separate.slice(1).map((after) => Math.abs(mean(onnx.separate[0]) - mean(after)));
    const seconds = Object.entries(times.summaries).map(([name, { median }]) => [name, median]);
    return {
      figures: {
        batch_cost_ratio: ratio(`${ours}_together_s`, `${ours}_separate_s`),
        onnxruntime_batch_cost_ratio: ratio('onnxruntime_together_s', 'onnxruntime_separate_s'),
        native_to_onnxruntime_separate_ratio: native ? ratio('native_together_s', 'onnxruntime_separate_s') : null,
        bare_forward_ratio: bareRatio,
        // The base is a pass of its own.
        pass_share_per_update: bareRatio - 1 / UPDATES,
        ...Object.fromEntries(seconds),
        updates: UPDATES,
        changed_share: (updates[0]?.indices.length ?? 0) / weights.length,
        largest_score_nats: Math.max(...scores),
        worst_score_deviation_nats: worst ?? 0,
        spread: times.summaries[`${ours}_together_s`]?.spread ?? null,
      },
      notes: [
        'separate: loss before and after each update, 40 passes over the model in fp32; together: what is shared once',
        native
          ? 'batch_cost_ratio: the native engine, updates as differences in bf16 from a base in fp32; its figures to the end'
          : 'batch_cost_ratio: onnxruntime, as there is no native library with bf16 here (npm run build:native)',
        'bare_forward_ratio: against the 20 losses after alone; pass_share_per_update: the same without the base',
        'random weights and heavy-tailed random updates; every update changes every tensor',
      ],
    };
  } finally {
    await onnx.engine.close();
    await native?.engine.close();
  }
}
