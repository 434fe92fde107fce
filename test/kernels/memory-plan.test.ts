// time-limit: 120 s
/** Sizes, and the choice of how to run a model. */
import { execFile } from 'node:child_process';
import { platform } from 'node:os';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  estimateMemory,
  formatSize,
  InvalidSizeError,
  MemoryBudgetError,
  type MemoryMode,
  parseSize,
  planMemory,
} from '../../kernels/engine/memory-plan.ts';
import { parameterCount } from '../../kernels/model/layout.ts';
import { presets } from '../../kernels/model/preset.ts';
import { usableInstructionSets } from '../../kernels/native/library.ts';
import { ResidentModelSession } from '../../kernels/session/resident-session.ts';
import { sessionInit } from './small-session.ts';

const GIB = 2 ** 30;
const CHILD = fileURLToPath(new URL('peak-memory.ts', import.meta.url));

test('sizes are read and written', () => {
  for (const [text, bytes] of [
    ['6GiB', 6 * GIB],
    [' 1.5 GiB ', 1.5 * GIB],
    ['512MiB', 512 * 2 ** 20],
    ['2GB', 2e9],
    ['100 B', 100],
  ] as const)
    assert.is(parseSize(text), bytes);
  for (const text of ['', '6', 'GiB', '-1GiB', '6gib', '6 G', '1e3GiB', '0GiB', '0.1B', 'NaNGiB', '99999999TiB'])
    assert.throws(
      () => parseSize(text),
      (error: unknown) => error instanceof InvalidSizeError && /such as 6GiB/.test(error.message),
    );
  assert.is(formatSize(1.5 * GIB), '1.50 GiB');
  assert.is(formatSize(3 * 2 ** 20), '3.00 MiB');
});

test('the estimate of a streamed 7B gradient is a layer and its copies, not the model', () => {
  const request = { preset: presets['alice-7b'], batch: 1, context: 256 };
  // By hand: a block is 4 x (2 x 4096^2 + 2 x 1024 x 4096 + 3 x 4096 x 11264 + 2 x 4096) bytes; weights twice, gradient
  // and the binding's copy; 35 activations of 4 MiB; intermediates and the runtime.
  const block = 4 * (2 * 4096 ** 2 + 2 * 1024 * 4096 + 3 * 4096 * 11_264 + 2 * 4096);
  const floor = 4 * block + 35 * 4 * 2 ** 20;
  const streamed = estimateMemory(request, 'streamed');
  assert.ok(streamed > floor && streamed < floor + 0.6 * GIB, formatSize(streamed));
  assert.ok(streamed < 4 * GIB);
  const saved = streamed - estimateMemory(request, 'streamed-no-prefetch');
  assert.ok(saved >= block && saved < 1.1 * block, formatSize(saved));
  assert.ok(estimateMemory(request, 'blocks') > 8 * 4 * parameterCount(request.preset));
});

test('the fastest mode that fits is chosen', () => {
  const request = { preset: presets['alice-50m'], batch: 1, context: 256 };
  const modes: readonly MemoryMode[] = ['whole', 'blocks', 'streamed', 'streamed-no-prefetch'];
  const bytes = modes.map((mode) => estimateMemory(request, mode));
  assert.equal(
    bytes,
    bytes.toSorted((a, b) => b - a),
  );
  for (const [i, mode] of modes.entries()) {
    assert.equal(planMemory(request, bytes[i]), { backend: 'onnx', mode, bytes: bytes[i] });
    if (i > 0) assert.is(planMemory(request, bytes[i - 1]! - 1).mode, mode);
  }
  assert.is(planMemory(request, undefined).mode, 'whole');
  assert.is(planMemory({ ...request, batch: 16, context: 1024 }, undefined).mode, 'blocks');
});

test('a budget that is too small says how much is needed', () => {
  const request = { preset: presets['alice-7b'], batch: 1, context: 256 };
  const needed = estimateMemory(request, 'streamed-no-prefetch');
  for (const [modes, least] of [
    [undefined, needed],
    [['whole', 'blocks'], estimateMemory(request, 'blocks')],
  ] as const)
    try {
      planMemory(request, 2 ** 30, modes);
      assert.unreachable('it did not throw');
    } catch (error) {
      assert.instance(error, MemoryBudgetError);
      assert.is((error as MemoryBudgetError).neededBytes, least);
      assert.match((error as Error).message, formatSize(least));
      assert.match((error as Error).message, /1\.00 GiB allowed/);
    }
});

for (const name of ['alice-tiny', 'alice-50m'] as const)
  for (const mode of ['whole', 'blocks', 'streamed', 'streamed-no-prefetch'] as const)
    test(`the estimate is near the truth: ${name}, ${mode}`, async () => {
      if (platform() !== 'linux') return;
      const request = { preset: presets[name], batch: 1, context: 256, residentVectors: 0 };
      const { stdout } = await promisify(execFile)(process.execPath, [CHILD, name, mode]);
      const [peak, estimate] = [Number(stdout), estimateMemory(request, mode)];
      // Above: a budget would be broken. Far below: models would be refused that fit.
      const said = `${formatSize(peak)} of ${formatSize(estimate)}`;
      assert.ok(peak < 1.03 * estimate, said);
      assert.ok(peak > 0.5 * estimate, said);
    });

const nativeTest = usableInstructionSets().length > 0 ? test : test.skip;
for (const name of ['alice-tiny', 'alice-50m'] as const)
  for (const mode of ['whole', 'blocks'] as const)
    nativeTest(`the estimate of the native backend is near the truth: ${name}, ${mode}`, async () => {
      if (platform() !== 'linux') return;
      const request = { preset: presets[name], batch: 1, context: 256, residentVectors: 0, backend: 'native' } as const;
      const { stdout } = await promisify(execFile)(process.execPath, [CHILD, name, mode, 'native']);
      const [peak, estimate] = [Number(stdout), estimateMemory(request, mode)];
      const said = `${formatSize(peak)} of ${formatSize(estimate)}`;
      assert.ok(peak < 1.03 * estimate, said);
      assert.ok(peak > 0.4 * estimate, said);
    });

test('a session keeps to its memory or is not made', async () => {
  const init = sessionInit();
  assert.throws(
    () => new ResidentModelSession({ ...init, memoryBytes: 2 ** 20 }),
    (error: unknown) => error instanceof MemoryBudgetError,
  );
  const request = { preset: init.preset, batch: init.recipe.batchSequences, context: init.preset.context };
  const session = new ResidentModelSession({ ...init, memoryBytes: Math.ceil(estimateMemory(request, 'blocks')) });
  session.initialize(new Uint8Array(32));
  await session.close();
});

test.run();
