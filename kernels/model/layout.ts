/**
 * Canonical order of a model's tensors inside one flat float32 vector.
 *
 * Order: embedding, blocks from first to last, final norm, head. The order is protocol: the model root, submissions and
 * checkpoints are defined over it. Matrices are row-major `[outputs, inputs]`, so that a checkpoint in the Hugging Face
 * convention is a copy.
 */
import { headWidth, type Preset } from './preset.ts';

/** What a tensor is for; decides initialization and weight decay. */
export type TensorRole = 'embedding' | 'norm' | 'projection' | 'residual-projection' | 'head';

/** One tensor of a model inside the flat vector. Offset and length count elements. */
export interface TensorSlot {
  readonly name: string;
  readonly role: TensorRole;
  /** One dimension for norms, two (`[outputs, inputs]`, or `[vocabulary, hidden]`) for all others. */
  readonly shape: readonly number[];
  readonly offset: number;
  readonly length: number;
}

/** Names of the tensors of one block, in canonical order, without the `layers.<i>.` prefix. */
export const blockTensorNames = [
  'attention.norm',
  'attention.query',
  'attention.key',
  'attention.value',
  'attention.output',
  'ffn.norm',
  'ffn.gate',
  'ffn.up',
  'ffn.down',
] as const;
export type BlockTensorName = (typeof blockTensorNames)[number];

/** Shape and role of each tensor of a block. */
export function blockTensors(preset: Preset): Record<BlockTensorName, { shape: readonly number[]; role: TensorRole }> {
  const { hidden, ffn } = preset;
  const keyValueWidth = preset.keyValueHeads * headWidth(preset);
  return {
    'attention.norm': { shape: [hidden], role: 'norm' },
    'attention.query': { shape: [hidden, hidden], role: 'projection' },
    'attention.key': { shape: [keyValueWidth, hidden], role: 'projection' },
    'attention.value': { shape: [keyValueWidth, hidden], role: 'projection' },
    'attention.output': { shape: [hidden, hidden], role: 'residual-projection' },
    'ffn.norm': { shape: [hidden], role: 'norm' },
    'ffn.gate': { shape: [ffn, hidden], role: 'projection' },
    'ffn.up': { shape: [ffn, hidden], role: 'projection' },
    'ffn.down': { shape: [hidden, ffn], role: 'residual-projection' },
  };
}

/**
 * The tensors of a model in canonical order, without gaps. `head` is absent when the preset ties it to `embedding`.
 */
export function tensorLayout(preset: Preset): readonly TensorSlot[] {
  const slots: TensorSlot[] = [];
  let offset = 0;
  const add = (name: string, role: TensorRole, shape: readonly number[]) => {
    const length = shape.reduce((product, size) => product * size, 1);
    slots.push({ name, role, shape, offset, length });
    offset += length;
  };
  add('embedding', 'embedding', [preset.vocabulary, preset.hidden]);
  const block = blockTensors(preset);
  for (let layer = 0; layer < preset.layers; layer++)
    for (const name of blockTensorNames) add(`layers.${layer}.${name}`, block[name].role, block[name].shape);
  add('norm', 'norm', [preset.hidden]);
  if (!preset.tied) add('head', 'head', [preset.vocabulary, preset.hidden]);
  return slots;
}

/** Number of parameters: the length of the flat vector. */
export function parameterCount(preset: Preset): number {
  const last = tensorLayout(preset).at(-1);
  return last === undefined ? 0 : last.offset + last.length;
}
