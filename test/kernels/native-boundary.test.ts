/** What JavaScript can do to the native library beyond wrong lengths: getters, several threads, other libraries. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  loadNativeLibrary,
  type NativeAdamWConstants,
  type NativeShape,
  usableInstructionSets,
} from '../../kernels/native/library.ts';

const usable = usableInstructionSets({ emulated: true });
const nativeTest = usable.length === 0 ? test.skip : test;

const shape: NativeShape = {
  ...{ vocabulary: 64, hidden: 32, layers: 2, queryHeads: 4, keyValueHeads: 2, ffn: 48, context: 16, batch: 2 },
  ...{ ropeTheta: 10_000, normEpsilon: 1e-5, tied: 0, recompute: 0, headBytes: 2 ** 20, threads: 2, bf16: 0 },
};
const constants = { beta1: 1, beta2: 1, epsilon: 1, clip: 1, meanCorrection: 1, squareCorrection: 1, keep: 1 };
/** Large enough to be memory of their own, which is given back at once. */
const vector = () => new Float32Array(100_000);
const refused = (call: () => unknown) =>
  assert.throws(call, (error: NodeJS.ErrnoException) => error.code === 'ERR_NATIVE_ARGUMENT');

nativeTest('getters of constants cannot take away what the call works on', () => {
  const library = loadNativeLibrary();
  const engine = library.create(shape);
  const getting = (get: () => number): NativeAdamWConstants => Object.defineProperty({ ...constants }, 'keep', { get });
  for (const taken of [0, 1, 2, 3]) {
    const vectors = [vector(), vector(), vector(), vector()] as const;
    const [w, g, m, v] = vectors;
    const take = getting(() => vectors[taken]!.buffer.transfer(0).byteLength);
    refused(() => library.step(engine, w, g, m, v, take));
  }
  const fails = getting(() => {
    throw new RangeError('mine');
  });
  assert.throws(
    () => library.step(engine, vector(), vector(), vector(), vector(), fails),
    (error: Error) => error instanceof RangeError && error.message === 'mine',
  );
  const close = getting(() => {
    library.close(engine);
    return 1;
  });
  refused(() => library.step(engine, vector(), vector(), vector(), vector(), close));
});

nativeTest('an engine is none to another library', () => {
  const libraries = usable.map(loadNativeLibrary);
  const engines = libraries.map((library) => library.create(shape));
  for (const [i, library] of libraries.entries())
    for (const [j, engine] of engines.entries())
      if (i === j) assert.is(library.squares(engine, Float32Array.of(3)), 9);
      else {
        refused(() => library.squares(engine, vector()));
        refused(() => library.close(engine));
      }
  for (const [i, library] of libraries.entries()) library.close(engines[i]!);
});

nativeTest('arrays that lie in shared or resizable memory, and in parts of it, are used as they are', () => {
  const library = loadNativeLibrary();
  const engine = library.create(shape);
  const resizable = new ArrayBuffer(40, { maxByteLength: 80 });
  const tracking = new Float32Array(resizable).fill(1);
  const fixed = new Float32Array(resizable, 8, 8);
  const shared = new Float32Array(new SharedArrayBuffer(40)).fill(1);
  assert.is(library.squares(engine, tracking), 10);
  assert.is(library.squares(engine, fixed), 8);
  assert.is(library.squares(engine, shared as unknown as Float32Array), 10);
  resizable.resize(80);
  assert.is(library.squares(engine, tracking), 10);
  resizable.resize(8);
  assert.is(library.squares(engine, tracking), 2);
  assert.is(library.squares(engine, fixed), 0);
  for (const Other of [Float16Array, Uint16Array, Float64Array, BigInt64Array, Int32Array])
    refused(() => library.squares(engine, new Other(100) as unknown as Float32Array));
  library.close(engine);
});

nativeTest('shapes whose sizes multiply beyond all bounds are refused before anything is allocated', () => {
  const library = loadNativeLibrary();
  const huge = 2 ** 24;
  for (const wrong of [
    { context: huge, hidden: huge, queryHeads: 2 },
    { context: huge },
    { batch: huge, context: huge },
    { vocabulary: huge, hidden: huge },
    { ffn: huge, hidden: huge },
    { hidden: huge, queryHeads: 1, keyValueHeads: 1, layers: 1024 },
  ])
    refused(() => library.create({ ...shape, ...wrong }));
});

/** Makes engines and computes, again and again, until it is ended; says so each time. */
const BUSY_WORKER = `
  const { parentPort, workerData } = require('node:worker_threads');
  import(workerData.file).then(({ loadNativeLibrary }) => {
    const library = loadNativeLibrary();
    const [weights, gradient] = [new Float32Array(workerData.parameters), new Float32Array(workerData.parameters)];
    const [tokens, rows] = [new Int32Array(34), new Float32Array(32)];
    for (;;) {
      const engine = library.create(workerData.shape);
      library.train(engine, weights, tokens, rows, 1, gradient, 0);
      parentPort.postMessage(rows[31]);
    }
  });
`;

nativeTest('several threads compute at once, and are ended while their engines live', async () => {
  const file = fileURLToPath(new URL('../../kernels/native/library.ts', import.meta.url));
  const block = 2 * 32 + 2 * 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32;
  const workerData = { file, shape, parameters: 2 * 64 * 32 + 32 + 2 * block };
  await Promise.all(
    Array.from({ length: 3 }, async () => {
      const worker = new Worker(BUSY_WORKER, { eval: true, workerData });
      await new Promise<void>((resolve, reject) => {
        let calls = 0;
        worker.on('error', reject);
        worker.on('exit', () => reject(new Error('the worker ended early')));
        worker.on('message', (loss: number) => {
          assert.ok(Math.abs(loss - Math.log(64)) < 1e-5, `${loss}`);
          if (++calls === 20) resolve();
        });
      });
      worker.removeAllListeners('exit');
      await worker.terminate();
    }),
  );
  const library = loadNativeLibrary();
  library.close(library.create(shape));
});

/** Leaves room for a few threads' stacks, and asks for many. */
const FEW_THREADS = `
  const { loadNativeLibrary } = await import(process.argv[1]);
  const { execFileSync } = await import('node:child_process');
  const { readFileSync } = await import('node:fs');
  const library = loadNativeLibrary();
  const shape = JSON.parse(process.argv[2]);
  const kib = Number(/VmSize:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]);
  execFileSync('prlimit', ['--pid', String(process.pid), '--as=' + (kib + 200_000) * 1024]);
  try {
    library.create({ ...shape, threads: 1024 });
  } catch ({ code, message }) {
    console.log(code, message);
  }
  library.close(library.create({ ...shape, threads: 2 }));
  console.log('goes on');
`;

// The sanitizers' own memory is beyond such a limit.
const limited =
  usable.length > 0 &&
  process.platform === 'linux' &&
  spawnSync('prlimit', ['--version']).status === 0 &&
  !readFileSync('/proc/self/maps', 'utf8').includes('libasan');

(limited ? test : test.skip)('a system without threads left is an error, and the next engine is made', () => {
  const file = fileURLToPath(new URL('../../kernels/native/library.ts', import.meta.url));
  const flags = ['--input-type=module', '-e', FEW_THREADS, file, JSON.stringify(shape)];
  const { stdout, stderr, status } = spawnSync(process.execPath, flags, { encoding: 'utf8' });
  assert.is(status, 0, stderr);
  assert.match(stdout, /ERR_NATIVE_MEMORY no thread can be started.*\ngoes on/);
});

test.run();
