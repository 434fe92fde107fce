/** How much memory a model takes, before anything is allocated. */
import { blockTensors, parameterCount } from './layout.ts';
import type { Preset } from './preset.ts';

/** Vectors of the model's length that a miner's session holds while it trains with everything in memory. */
const RESIDENT_VECTORS = [
  'weights',
  'gradient',
  'mean of gradients',
  'mean of squares',
  'error feedback',
  'weights at the start of the round',
  'pseudo-gradient',
].length;

/** Bytes of the float32 weights. */
export function weightsBytes(preset: Preset): number {
  return 4 * parameterCount(preset);
}

/** Bytes of model-sized vectors in training with everything in memory; activations come on top. */
export function residentTrainingBytes(preset: Preset): number {
  return RESIDENT_VECTORS * weightsBytes(preset);
}

/** Bytes of the weights of one block: what block-wise work needs at a time. */
export function blockBytes(preset: Preset): number {
  const shapes = Object.values(blockTensors(preset)).map(({ shape }) => shape);
  return 4 * shapes.reduce((sum, shape) => sum + shape.reduce((product, size) => product * size, 1), 0);
}
