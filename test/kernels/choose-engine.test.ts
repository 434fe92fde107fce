/** Which backend, device and precision a request comes to, on machines with and without a native library or a GPU. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { BackendUnavailableError } from '../../kernels/engine/backend.ts';
import { type ChosenEngine, chooseEngine, type EngineRequest } from '../../kernels/engine/choose-engine.ts';
import { type Device, DeviceUnavailableError } from '../../kernels/engine/device/device.ts';
import type { DeviceProbe } from '../../kernels/engine/device/probe.ts';
import { estimateMemory } from '../../kernels/engine/memory-plan.ts';
import { presets } from '../../kernels/model/preset.ts';
import type { NativeSupport } from '../../kernels/native/support.ts';
import { createSession, planSession } from '../../kernels/session/create-session.ts';
import { sessionInit } from './small-session.ts';

const usable = (instructionSet: string, bf16: boolean): NativeSupport => ({
  usable: true,
  instructionSet,
  instructionSets: ['portable', instructionSet],
  bf16,
});
const withBf16 = usable('avx512bf16', true);
const withoutBf16 = usable('avx2', false);
const absent: NativeSupport = { usable: false, reason: 'it is not built here: run it' };

/** Chooses on a machine with this library, whose only GPU that works is of that speed; none without one. */
async function choose(native: NativeSupport, request: Partial<EngineRequest> = {}, gpuGflops?: number) {
  const probe = async (device: Device): Promise<DeviceProbe> => {
    const gflops = device === 'cpu' ? 100 : device === 'webgpu' ? gpuGflops : undefined;
    if (gflops === undefined) return { device, works: false, reason: 'it is not there', remedy: '' };
    return { device, works: true, gflops, halfGflops: null, trainingTokensPerSecond: null, native: null };
  };
  const whole: EngineRequest = { backend: 'auto', device: 'auto', precision: 'auto', threads: 2, ...request };
  return await chooseEngine(whole, {}, { probe, native: () => native });
}

const brief = ({ backend, device, precision }: ChosenEngine) => `${backend} ${device} ${precision}`;

async function refusal(choice: Promise<unknown>): Promise<Error> {
  return await choice.then(
    () => new Error('it was not refused'),
    (error: Error) => error,
  );
}

test('auto is native on the CPU where there is a library, in bf16 where the processor has it', async () => {
  assert.is(brief(await choose(withBf16)), 'native cpu bf16');
  assert.is(brief(await choose(withoutBf16)), 'native cpu fp32');
  assert.is(brief(await choose(withBf16, { precision: 'fp32' })), 'native cpu fp32');
  assert.is(brief(await choose(withBf16, { backend: 'onnx' })), 'onnx cpu fp32');
  assert.is(brief(await choose(absent)), 'onnx cpu fp32');
});

test('auto leaves it to onnxruntime where the processor has no better instructions than any other', async () => {
  const portable = usable('portable', false);
  assert.is(brief(await choose(portable)), 'onnx cpu fp32');
  assert.is(brief(await choose(portable, { backend: 'native' })), 'native cpu fp32');
});

test('the line for the log names backend, instruction set, precision and threads, or why not native', async () => {
  assert.match(
    (await choose(withBf16, { device: 'cpu' })).message,
    /^computing on cpu with the native backend \(avx512bf16\): training in bf16, scoring in fp32, 2 threads$/,
  );
  assert.match(
    (await choose(absent, { device: 'cpu', threads: 1 })).message,
    /^computing on cpu with onnxruntime in fp32, 1 thread \(not on the native backend: it is not built here: run it\)$/,
  );
  assert.is((await choose(absent, { device: 'cpu', backend: 'onnx' })).message.includes('not on'), false);
});

test('a GPU computes with onnxruntime; what only the native backend has keeps to the CPU', async () => {
  if (process.platform !== 'linux' || process.arch !== 'x64') return;
  assert.is(brief(await choose(withBf16, {}, 500)), 'onnx webgpu fp32');
  assert.is(brief(await choose(withBf16, { backend: 'native' }, 500)), 'native cpu bf16');
  assert.is(brief(await choose(withBf16, { precision: 'bf16' }, 500)), 'native cpu bf16');
  assert.is(brief(await choose(withBf16, { device: 'webgpu' }, 500)), 'onnx webgpu fp32');
});

test('what cannot be had is refused with what to do', async () => {
  for (const [native, request, words] of [
    [absent, { backend: 'native' }, /not built here: run it; or use --backend auto/],
    [absent, { precision: 'bf16' }, /not built here: run it; or use --backend auto and --precision auto/],
    [withoutBf16, { precision: 'bf16' }, /the processor has no bf16.*avx2.*--precision auto or fp32/],
    [withBf16, { backend: 'onnx', precision: 'bf16' }, /onnxruntime has no bf16; use --backend auto/],
    [withBf16, { backend: 'native', device: 'webgpu' }, /on the CPU, and --device webgpu was asked for/],
  ] as const) {
    const error = await refusal(choose(native, request));
    assert.instance(error, BackendUnavailableError);
    assert.match(error.message, words);
  }
  assert.instance(await refusal(choose(withBf16, { backend: 'native', precision: 'fp16' })), DeviceUnavailableError);
});

test('a session streams by the backend it has what memory cannot hold, and refuses what no engine is', async () => {
  const init = { ...sessionInit(), backend: 'native', precision: 'bf16' } as const;
  assert.is(planSession(init).backend, 'native');
  const { recipe, backend } = init;
  const shape = { preset: presets['alice-50m'], batch: recipe.batchSequences, context: 1024, backend };
  const memoryBytes = Math.floor(estimateMemory(shape, 'blocks')) - 1;
  const streaming = { ...init, preset: shape.preset, streamFolder: 'unused', memoryBytes };
  const native = planSession(streaming);
  assert.equal([native.backend, native.mode.startsWith('streamed')], ['native', true]);
  const onnx = planSession({ ...streaming, backend: 'onnx', precision: 'fp32' });
  assert.equal([onnx.backend, onnx.mode.startsWith('streamed')], ['onnx', true]);
  assert.throws(
    () => planSession({ ...init, memoryBytes: 2 ** 20 }),
    (error: { code?: string }) => error.code === 'ERR_MEMORY_BUDGET',
  );
  const wrong = await refusal(createSession({ ...init, backend: 'onnx' }));
  assert.instance(wrong, BackendUnavailableError);
});

test.run();
