/** What PyTorch computed (vectors/make_reference.py), and the weights and tokens that it computed it from. */
import { readFileSync } from 'node:fs';
import { parameterCount, tensorLayout } from '../../kernels/model/layout.ts';
import { type Preset, parsePreset } from '../../kernels/model/preset.ts';
import { seededUniform } from './seeded.ts';

/** A model with its losses and its whole gradient. */
export interface ReferenceCase {
  readonly preset: Preset;
  readonly batch: number;
  readonly seed: number;
  readonly loss: number;
  readonly sequenceLosses: readonly number[];
  /** In canonical order. */
  readonly gradient: Float32Array;
}

/** A model of a preset's shapes, with samples of its gradient. */
export interface ShapeCase {
  readonly preset: Preset;
  readonly batch: number;
  readonly seed: number;
  /** Weights are uniform in [-spread, spread), norms one larger. */
  readonly spread: number;
  readonly loss: number;
  readonly sequenceLosses: readonly number[];
  /** In canonical order: Euclidean norm, largest magnitude, and the elements at {@link sampledElements}. */
  readonly tensors: readonly { readonly norm: number; readonly largest: number; readonly samples: readonly number[] }[];
}

const load = (name: string) =>
  JSON.parse(readFileSync(new URL(`./vectors/${name}`, import.meta.url), 'utf8')) as Record<string, unknown>[];

export const references = load('transformer.json').map(({ preset, gradientBase64, ...rest }) => ({
  ...rest,
  preset: parsePreset(preset as Record<string, unknown>),
  gradient: new Float32Array(new Uint8Array(Buffer.from(gradientBase64 as string, 'base64')).buffer),
})) as unknown as ReferenceCase[];

export const shapeReferences = load('shapes.json').map(({ preset, ...rest }) => ({
  ...rest,
  preset: parsePreset(preset as Record<string, unknown>),
})) as unknown as ShapeCase[];

/** Weights and tokens of a case, drawn as the Python script draws them. */
export function materials(
  preset: Preset,
  { batch, seed, spread = 0.5 }: { readonly batch: number; readonly seed: number; readonly spread?: number },
): { weights: Float32Array; tokens: Int32Array } {
  const uniform = seededUniform(seed);
  const weights = new Float32Array(parameterCount(preset));
  for (const slot of tensorLayout(preset))
    for (let i = 0; i < slot.length; i++)
      weights[slot.offset + i] = (slot.shape.length === 1 ? 1 : 0) + (uniform() - 0.5) * 2 * spread;
  const tokens = Int32Array.from({ length: batch * (preset.context + 1) }, () =>
    Math.floor(uniform() * preset.vocabulary),
  );
  return { weights, tokens };
}

/** Places in a tensor whose gradients are recorded: spread over it by a stride that meets all rows and columns. */
export function sampledElements(length: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => (i * 7919 + 13) % length);
}
