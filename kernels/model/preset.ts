/**
 * Presets: the shape of an Alice transformer as data. A network's genesis carries one; everything else in `kernels/`
 * derives from it.
 *
 * The architecture is fixed: token embedding, `layers` pre-norm blocks (RMSNorm, grouped-query attention with rotary
 * positions in the rotate-half form, RMSNorm, SwiGLU), a final RMSNorm, and an output head. No biases.
 */
import * as v from 'valibot';

/** Bounds that keep every element count far inside what a double counts exactly. */
const MAX_DIMENSION = 1 << 24;

const dimension = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(MAX_DIMENSION));

const presetSchema = v.strictObject({
  /** Name for people, [a-z0-9-], at most 64 characters. */
  name: v.pipe(v.string(), v.regex(/^[a-z0-9][a-z0-9-]{0,63}$/)),
  /** Number of transformer blocks. */
  layers: v.pipe(dimension, v.maxValue(1024)),
  /** Width of the residual stream. Divided evenly by the query heads. */
  hidden: dimension,
  /** Number of query heads. */
  queryHeads: v.pipe(dimension, v.maxValue(1024)),
  /** Number of key/value heads; divides the query heads (each is shared by that many). */
  keyValueHeads: v.pipe(dimension, v.maxValue(1024)),
  /** Width of the SwiGLU inner layer. */
  ffn: dimension,
  /** Number of token ids. */
  vocabulary: v.pipe(dimension, v.minValue(2)),
  /** Longest sequence, in tokens. */
  context: dimension,
  /** Base of the rotary frequencies. */
  ropeTheta: v.pipe(v.number(), v.finite(), v.minValue(1)),
  /** Added to the mean square inside RMSNorm. */
  normEpsilon: v.pipe(v.number(), v.finite(), v.minValue(1e-12), v.maxValue(1)),
  /** Whether the output head is the embedding table itself. */
  tied: v.boolean(),
});

/** Shape of a model; every field is described at the schema. Immutable, structured-cloneable, JSON-safe. */
export type Preset = Readonly<v.InferOutput<typeof presetSchema>>;

/** Thrown when a value is not a consistent preset, or a preset's name is unknown. */
export class InvalidPresetError extends Error {
  static readonly code = 'ERR_INVALID_PRESET';
  readonly code = InvalidPresetError.code;
  override readonly name = 'InvalidPresetError';
}

/**
 * Checks a preset as a genesis file holds it (a flat record of scalars) and returns a frozen copy.
 * Throws {@link InvalidPresetError} naming the first field that is wrong.
 */
export function parsePreset(value: Readonly<Record<string, unknown>>): Preset {
  const result = v.safeParse(presetSchema, value);
  if (!result.success) {
    const issue = result.issues[0];
    throw new InvalidPresetError(`preset: ${v.getDotPath(issue) ?? 'top level'}: ${issue.message}`);
  }
  const preset = result.output;
  if (preset.hidden % preset.queryHeads !== 0)
    throw new InvalidPresetError(
      `preset: hidden ${preset.hidden} is not a multiple of ${preset.queryHeads} query heads`,
    );
  if ((preset.hidden / preset.queryHeads) % 2 !== 0)
    throw new InvalidPresetError('preset: the head width hidden / queryHeads must be even, for rotary positions');
  if (preset.queryHeads % preset.keyValueHeads !== 0)
    throw new InvalidPresetError(
      `preset: ${preset.queryHeads} query heads are not a multiple of ${preset.keyValueHeads} key/value heads`,
    );
  return Object.freeze(preset);
}

const base = { ropeTheta: 10_000, normEpsilon: 1e-5, tied: false };

/** Presets by name. Parameter counts: {@link import('./layout.ts').parameterCount}. */
export const presets = {
  /** 3.1 M parameters: trains in minutes on two cores; the default of a local network. */
  'alice-nano': parsePreset({
    ...base,
    name: 'alice-nano',
    layers: 4,
    hidden: 192,
    queryHeads: 6,
    keyValueHeads: 2,
    ffn: 512,
    vocabulary: 4096,
    context: 128,
  }),
  /** 15.7 M parameters: hours on two cores. */
  'alice-tiny': parsePreset({
    ...base,
    name: 'alice-tiny',
    layers: 6,
    hidden: 384,
    queryHeads: 6,
    keyValueHeads: 2,
    ffn: 1024,
    vocabulary: 8192,
    context: 256,
  }),
  /**
   * 47.9 M parameters: the size at which speed is compared with PyTorch. Tied, as a head of its own would be more than
   * the eight blocks together.
   */
  'alice-50m': parsePreset({
    ...base,
    name: 'alice-50m',
    layers: 8,
    hidden: 512,
    queryHeads: 8,
    keyValueHeads: 2,
    ffn: 1376,
    vocabulary: 50_257,
    context: 1024,
    tied: true,
  }),
  /** 124.7 M parameters: about the smallest GPT-2, and tied as that is. */
  'alice-125m': parsePreset({
    ...base,
    name: 'alice-125m',
    layers: 12,
    hidden: 768,
    queryHeads: 12,
    keyValueHeads: 4,
    ffn: 2432,
    vocabulary: 50_257,
    context: 1024,
    tied: true,
  }),
  /** 0.93 B parameters. */
  'alice-1b': parsePreset({
    ...base,
    name: 'alice-1b',
    layers: 16,
    hidden: 2048,
    queryHeads: 32,
    keyValueHeads: 8,
    ffn: 5632,
    vocabulary: 50_257,
    context: 2048,
  }),
  /** 6.18 B parameters: Alice-7B as published (MISSION 1). */
  'alice-7b': parsePreset({
    ...base,
    name: 'alice-7b',
    layers: 32,
    hidden: 4096,
    queryHeads: 32,
    keyValueHeads: 8,
    ffn: 11_264,
    vocabulary: 50_257,
    context: 4096,
  }),
} as const satisfies Record<string, Preset>;

/** The preset of that name. Throws {@link InvalidPresetError} that lists the known names. */
export function presetByName(name: string): Preset {
  const found = Object.values<Preset>(presets).find((preset) => preset.name === name);
  if (found === undefined)
    throw new InvalidPresetError(`unknown preset ${JSON.stringify(name)}; known: ${Object.keys(presets).join(', ')}`);
  return found;
}

/** Width of one attention head. */
export function headWidth(preset: Preset): number {
  return preset.hidden / preset.queryHeads;
}

/** The preset as the flat record a genesis file holds; {@link parsePreset} reads it back. */
export function presetRecord(preset: Preset): Record<string, string | number | boolean> {
  return { ...preset };
}
