import { readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { assembleUpdate, decodeUpdate } from '../../kernels/gradient/agf1.ts';
import { chunkGeometry } from '../../kernels/gradient/chunks.ts';
import { encodeRecord } from '../../kernels/gradient/record.ts';
import { layoutOf, openLimits } from './layouts.ts';

const page = readFileSync(new URL('../../docs/agf1.md', import.meta.url), 'utf8');

/** The bytes of the page's example: in blocks marked `agf1`, what precedes the comment (two or more spaces and a word). */
function exampleBytes(): Uint8Array {
  const blocks = [...page.matchAll(/```agf1\n([^`]*)```/g)].map((match) => match[1]);
  const lines = blocks.join('').trim().split('\n');
  const bytes = lines.map((line) => /^(?:[0-9a-f]{2} *)+(?![0-9a-z])/.exec(line.slice(0, 51))![0]);
  return Buffer.from(bytes.join('').replaceAll(' ', ''), 'hex');
}

/** The rows of the page's last table. */
function exampleElements(): { tensor: number; index: number; value: number }[] {
  const rows = [...page.matchAll(/^\| (\d+) \| (\d+) \| (-?[\d.]+) \|$/gm)];
  return rows.map(([, tensor, index, value]) => ({
    tensor: Number(tensor),
    index: Number(index),
    value: Math.fround(Number(value)),
  }));
}

const layout = layoutOf([[64, 128], [6], [10000]]);

test('the example in docs/agf1.md reads as the page says', () => {
  const update = decodeUpdate(exampleBytes(), { layout, limits: openLimits(layout) });
  assert.equal(update.header, {
    round: 7,
    author: '11'.repeat(32),
    modelRoot: '22'.repeat(32),
    presetHash: '33'.repeat(32),
  });
  const read = update.tensors.flatMap(({ tensor, indices, values }) =>
    [...indices].map((index, i) => ({ tensor, index, value: values[i] })),
  );
  assert.is(read.length, 9);
  assert.equal(read, exampleElements());
});

test('the reference encoder writes the example byte for byte', () => {
  const records = [
    { valueBits: 2, counts: [2, 2], positions: [1, 70, 0, 4095], values: [0.5, -0.25, 0.75, -0.25] },
    { valueBits: 32, counts: [2], positions: [1, 4], values: [1, -0.125] },
    { valueBits: 8, counts: [2, 0, 1], positions: [0, 9, 100], values: [1, -2, 1.5] },
  ] as const;
  const encoded = records.map(({ valueBits, counts, positions, values }, tensor) => {
    const geometry = chunkGeometry(layout[tensor].shape, 'tiles');
    const options = { tensor, topK: 2, valueBits, geometry, chunking: 'tiles' as const };
    const elements = [Uint32Array.from(positions), Float32Array.from(values)] as const;
    return encodeRecord(options, Uint32Array.from(counts), ...elements).record;
  });
  const header = {
    round: 7,
    author: '11'.repeat(32),
    modelRoot: '22'.repeat(32),
    presetHash: '33'.repeat(32),
  };
  assert.equal(assembleUpdate(header, encoded), new Uint8Array(exampleBytes()));
});

test.run();
