/** Compression by tensor, error feedback on disk: the same bytes as in memory, and never half a state. */
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { readErrorFeedback } from '../../kernels/checkpoint/model-state.ts';
import { type TensorPart, TensorStore, tensorParts, wholeTensor } from '../../kernels/checkpoint/tensor-store.ts';
import { compressUpdate, NonFiniteGradientError } from '../../kernels/gradient/compress.ts';
import { parameterCount, tensorLayout } from '../../kernels/model/layout.ts';
import { parsePreset } from '../../kernels/model/preset.ts';
import { presetHash } from '../../kernels/model/preset-hash.ts';
import { IncompleteGradientError, StreamedCompression } from '../../kernels/train/streamed-compression.ts';
import { seededValues } from './seeded.ts';
import { smallPreset } from './small-preset.ts';
import { withFolder } from './streamed-store.ts';

const preset = parsePreset({ ...smallPreset, vocabulary: 300 });
const layout = tensorLayout(preset);
const elements = parameterCount(preset);
const model = { presetHash: presetHash(preset), layout };
const options = { topK: 32, valueBits: 2, decay: 0.95 } as const;
const header = (round: number) => ({
  round,
  author: '1'.repeat(64),
  modelRoot: '2'.repeat(64),
  presetHash: model.presetHash,
});

async function rejection(promise: Promise<unknown>): Promise<unknown> {
  return await promise.then(
    () => assert.unreachable('it did not reject'),
    (error: unknown) => error,
  );
}

test('rounds give the bytes and the error feedback of compression in memory', async () => {
  await withFolder(async (folder) => {
    const path = join(folder, 'error-feedback');
    const errorFeedback = new Float32Array(elements);
    let stored: TensorStore | undefined;
    for (let round = 1; round <= 3; round++) {
      const delta = seededValues(round, elements);
      const expected = compressUpdate({ layout, delta, errorFeedback, options, header: header(round) });
      const compression = await StreamedCompression.begin(path, model, stored, options);
      await stored?.close();
      // Backwards, as gradients come, and in parts.
      for (const part of layout.toReversed().flatMap((slot) => tensorParts(slot, 64 * 32))) {
        const from = part.slot.offset + part.start;
        await compression.add(part, delta.subarray(from, from + part.length));
      }
      assert.equal(await compression.finish(header(round)), expected);
      await compression.close();
      const read = await readErrorFeedback(path, { presetHash: model.presetHash, elements });
      assert.is(read.round, round);
      assert.equal(read.errorFeedback, errorFeedback);
      stored = await TensorStore.open(path, { ...model, kind: 'error-feedback' });
    }
    await stored?.close();
  });
});

test('what is missing, comes twice or is not finite is refused, and the error feedback stays', async () => {
  await withFolder(async (folder) => {
    const path = join(folder, 'error-feedback');
    const first = await StreamedCompression.begin(path, model, undefined, options);
    for (const slot of layout) await first.add(wholeTensor(slot), seededValues(1, slot.length));
    await first.finish(header(7));
    await first.close();
    const kept = await TensorStore.open(path, { ...model, kind: 'error-feedback' });
    const second = await StreamedCompression.begin(path, model, kept, options);
    const [embedding, norm, query] = layout as [(typeof layout)[0], (typeof layout)[0], (typeof layout)[0]];
    const values = (length: number) => new Float32Array(length).fill(1);
    await second.add(wholeTensor(norm), values(norm.length));
    const [part, next] = tensorParts(embedding, 64 * 32) as [TensorPart, TensorPart];
    await second.add(part, values(part.length));
    for (const wrong of [wholeTensor(norm), part, wholeTensor(query), { ...next, start: next.start + 64 * 32 }])
      assert.instance(await rejection(second.add(wrong, values(wrong.length))), IncompleteGradientError);
    assert.instance(await rejection(second.finish(header(8))), IncompleteGradientError);
    await second.close();
    const third = await StreamedCompression.begin(path, model, kept, options);
    const broken = values(norm.length);
    broken[3] = Number.NaN;
    assert.instance(await rejection(third.add(wholeTensor(norm), broken)), NonFiniteGradientError);
    await third.close();
    await kept.close();
    assert.is((await readErrorFeedback(path, { presetHash: model.presetHash, elements })).round, 7);
  });
});

test.run();
