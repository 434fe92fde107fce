// time-limit: 60 s
/** Selection in WebAssembly gives the bytes that JavaScript gives, and the committed module is what its source compiles to. */
import { readFile } from 'node:fs/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { chunkGeometry } from '../../kernels/gradient/chunks.ts';
import { accumulateAndSelect } from '../../kernels/gradient/top-k.ts';
import { HotLoops } from '../../kernels/wasm/hot-loops.ts';
import { buildHotLoops, renderBinary } from '../../tools/wasm/build.ts';
import { sameBits } from '../aggregate/updates.ts';
import { heavyTailed, randomSource } from './heavy-tailed.ts';

/** Matrices with and without edge tiles of every width modulo 4, vectors, one dimension too short for tiles. */
const SHAPES = [[128, 192], [70, 131], [64, 65], [65, 66], [200, 67], [5000], [9000], [4096], [3, 3000], [8, 16, 40]];

/** Vectors that look like gradients, hold many ties and zeros of both signs, or span the range of fp32. */
function inputsOf(length: number, seed: number): Float32Array[] {
  const random = randomSource(seed);
  return [
    heavyTailed(1, length, seed),
    Float32Array.from({ length }, (_, i) => (i % 900 < 400 ? (i % 2 ? -0 : 0) : Math.round((random() - 0.5) * 6))),
    Float32Array.from({ length }, () => (random() - 0.5) * 10 ** (random() * 80 - 44)),
  ];
}

test('the same selection and the same error feedback, bit for bit, round after round', () => {
  const loops = HotLoops.create();
  assert.ok(loops !== null, 'this engine has SIMD');
  for (const shape of SHAPES) {
    const length = shape.reduce((size, dimension) => size * dimension, 1);
    const geometry = chunkGeometry(shape, 'tiles');
    for (const topK of [1, 4, 64, geometry.largestChunk]) {
      for (const [kind, delta] of inputsOf(length, length + topK).entries()) {
        const [plain, fast] = [new Float32Array(length), new Float32Array(length)];
        for (let round = 0; round < 3; round++) {
          const expected = accumulateAndSelect(delta, plain, geometry, topK, 0.95, null);
          const actual = accumulateAndSelect(delta, fast, geometry, topK, 0.95, loops);
          const what = `${shape}, k ${topK}, input ${kind}, round ${round}`;
          assert.ok(sameBits(fast, plain), `feedback: ${what}`);
          assert.ok(sameBits(actual.values, expected.values), `values: ${what}`);
          for (const field of ['counts', 'positions', 'indices'] as const) {
            assert.is(Buffer.compare(Buffer.from(actual[field].buffer), Buffer.from(expected[field].buffer)), 0, what);
          }
          // What was sent is gone, as compression does it, so that the next round selects something else.
          for (const index of expected.indices) plain[index] = fast[index] = plain[index]! / 3;
        }
      }
    }
  }
});

test('the committed module is what its source compiles to', async () => {
  const committed = await readFile(new URL('../../kernels/wasm/hot-loops-binary.ts', import.meta.url), 'utf8');
  assert.is(renderBinary(await buildHotLoops()), committed);
});

test.run();
