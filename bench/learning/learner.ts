/** Engines, ours and PyTorch's, that learn the same way: gradient, clipping, AdamW. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Engine } from '../../kernels/engine/engine.ts';
import { createEngine } from '../../kernels/engine/onnx-engine.ts';
import type { Preset } from '../../kernels/model/preset.ts';
import { createNativeEngine } from '../../kernels/native/native-engine.ts';
import { AdamW, type WeightUpdate } from '../../kernels/train/adamw.ts';
import { findPyTorch, PyTorchEngine, PyTorchError } from '../pytorch/engine.ts';

/** What can learn: a backend and the precision of its matrix products (weights and optimizer are float32 everywhere). */
export const learnerNames = ['onnx_fp32', 'native_fp32', 'native_bf16', 'pytorch_fp32', 'pytorch_bf16'] as const;

/** See {@link learnerNames}. */
export type LearnerName = (typeof learnerNames)[number];

/** Whether a word names a learner. */
export function isLearnerName(word: string): word is LearnerName {
  return (learnerNames as readonly string[]).includes(word);
}

/** What a step takes and how it is run. */
export interface LearnerShape {
  readonly preset: Preset;
  /** Sequences per step. */
  readonly batch: number;
  /** Tokens predicted per sequence. */
  readonly context: number;
  readonly threads: number;
}

/** A model that learns. One call at a time. */
export interface Learner {
  /** One step of AdamW at that rate, on `batch x (context + 1)` ids. */
  step(tokens: Int32Array, rate: number): Promise<void>;
  /** Mean loss over any number of sequences, nats. */
  meanLoss(tokens: Int32Array): Promise<number>;
  close(): Promise<void>;
}

function mean(values: Iterable<number>): number {
  const all = [...values];
  return all.reduce((sum, value) => sum + value, 0) / all.length;
}

/** One of our engines as a learner. */
export function learnerOf(engine: Engine, weights: Float32Array, update?: WeightUpdate): Learner {
  engine.loadWeights(weights);
  const optimizer = new AdamW(engine.layout, update);
  return {
    async step(tokens, rate) {
      const { gradient, gradientNorm } = await engine.lossAndGradient(tokens);
      optimizer.step(engine.weights, gradient, gradientNorm, rate);
    },
    meanLoss: async (tokens) => mean(await engine.losses(tokens)),
    close: async () => await engine.close(),
  };
}

/**
 * Makes a learner that starts from `weights`; PyTorch's are handed over in `folder`. Throws PyTorchError where there is
 * none, NativeUnavailableError and InvalidEngineOptionsError where the native engine is not built or has no bf16.
 */
export async function createLearner(
  name: LearnerName,
  shape: LearnerShape,
  weights: Float32Array,
  folder: string,
): Promise<Learner> {
  if (name === 'onnx_fp32') return learnerOf(createEngine(shape), weights);
  const precision = name.endsWith('bf16') ? 'bf16' : 'fp32';
  if (name.startsWith('native')) {
    const engine = createNativeEngine({ ...shape, precision });
    return learnerOf(engine, weights, engine.updateWeights);
  }
  const python = findPyTorch();
  if (python === undefined) throw new PyTorchError('PyTorch was not found (Debian: apt-get install python3-torch)');
  const weightsPath = join(folder, 'weights.f32');
  await writeFile(weightsPath, weights);
  const pytorch = await PyTorchEngine.start(python, { ...shape, weightsPath });
  return {
    async step(tokens, learningRate) {
      await pytorch.step({ tokens, precision, checkpoint: false, learningRate });
    },
    meanLoss: async (tokens) => mean(await pytorch.losses(tokens)),
    close: async () => pytorch.close(),
  };
}
