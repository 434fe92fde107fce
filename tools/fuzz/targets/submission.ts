/** Submissions (AGF1): the bytes that every validator decodes from every miner. */
import { type DecodeOptions, decodeUpdate, updateLimits } from '../../../kernels/gradient/agf1.ts';
import { compressUpdate } from '../../../kernels/gradient/compress.ts';
import { MalformedUpdateError } from '../../../kernels/gradient/errors.ts';
import { layoutElements, type TensorLayout } from '../../../kernels/gradient/layout.ts';
import { requireSound } from '../target.ts';

export const describe = 'AGF1 submissions, several layouts';

export const headBytes = 200;

function layoutOf(shapes: readonly (readonly number[])[]): TensorLayout {
  let offset = 0;
  return shapes.map((shape, i) => {
    const length = shape.reduce((size, dimension) => size * dimension, 1);
    offset += length;
    return { name: `t${i}`, shape, offset: offset - length, length };
  });
}

/** Tiles with and without edges, short and long vectors; one matrix large enough for promises that nothing keeps. */
const LAYOUTS = [
  layoutOf([[64, 128], [70, 100], [192], [5000]]),
  layoutOf([[130, 65], [7], [1]]),
  layoutOf([
    [3, 3000],
    [4, 8, 16],
  ]),
  layoutOf([
    [16_384, 16_384],
    [64, 64],
  ]),
];

/** What a decoder of each layout is told; made once, as nodes do. */
const OPTIONS: readonly DecodeOptions[] = LAYOUTS.map((layout) => ({
  layout,
  limits: {
    ...updateLimits(layout, { topK: 64, valueBits: 32, innerLearningRate: 0.003, maxInnerSteps: 64 }),
    valueBits: [2, 8, 32],
  },
}));

/** Well-formed submissions of every value type, chunking and count mode, for every layout but the large one. */
export function seeds(): Uint8Array[] {
  let state = 1;
  const random = () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
  const inputs: Uint8Array[] = [];
  const configurations = ([2, 8, 32] as const).flatMap((valueBits) =>
    (['tiles', 'tensor'] as const).flatMap((chunking) =>
      [
        { topK: 1, zeroShare: 0 },
        { topK: 8, zeroShare: 0.999 },
        { topK: 24, zeroShare: 0.5 },
      ].map((density) => ({ valueBits, chunking, ...density })),
    ),
  );
  for (const [i, layout] of LAYOUTS.slice(0, 3).entries()) {
    const presetHash = `0${i}`.repeat(32);
    const header = { round: 7, author: 'a1'.repeat(32), modelRoot: 'b2'.repeat(32), presetHash };
    for (const { valueBits, chunking, topK, zeroShare } of configurations) {
      const delta = Float32Array.from({ length: layoutElements(layout) }, () =>
        random() < zeroShare ? 0 : random() - 0.5,
      );
      const options = { topK, valueBits, chunking, decay: 0.95 };
      inputs.push(compressUpdate({ layout, delta, errorFeedback: new Float32Array(delta.length), options, header }));
    }
  }
  return inputs;
}

/** `decodeRecord` promises a result of 22 times and work space of 32 times its record; the rest is for small objects. */
export function allocationCap(inputBytes: number): number {
  return 64 * 1024 + 54 * inputBytes;
}

export function run(input: Uint8Array): string {
  // The preset hash of an input decides on its layout, so that the bytes alone say what happens.
  const options = OPTIONS[(input[80] ?? 0) % OPTIONS.length];
  const { layout, limits } = options;
  try {
    const { tensors } = decodeUpdate(input, options);
    let entries = 0;
    let last = -1;
    for (const { tensor, indices, values } of tensors) {
      requireSound(tensor > last && tensor < layout.length, 'tensors ascend within the layout');
      last = tensor;
      requireSound(indices.length === values.length, 'a value for every index');
      for (let i = 0; i < indices.length; i++) {
        requireSound(i === 0 || indices[i] > indices[i - 1], 'indices ascend');
        requireSound(Number.isFinite(values[i]), 'values are finite');
      }
      requireSound(
        indices.length === 0 || indices[indices.length - 1] < layout[tensor].length,
        'indices are in bounds',
      );
      entries += indices.length;
    }
    requireSound(entries <= limits.maxEntries, 'no more elements than allowed');
    return 'accepted';
  } catch (error) {
    if (error instanceof MalformedUpdateError) return error.code;
    throw error;
  }
}
