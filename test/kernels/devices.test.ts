// time-limit: 90 s
// test-time-limit: 60 s
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  BACKEND_CHOICES,
  PRECISION_CHOICES,
  parseBackendChoice,
  parsePrecisionChoice,
} from '../../kernels/engine/backend.ts';
import { chooseDevice, type DeviceRequest } from '../../kernels/engine/device/choose.ts';
import {
  DEVICE_CHOICES,
  DEVICES,
  type Device,
  DeviceUnavailableError,
  parseDeviceChoice,
  UnknownDeviceError,
} from '../../kernels/engine/device/device.ts';
import { explainFailure } from '../../kernels/engine/device/explain.ts';
import { type DeviceProbe, probeDevice } from '../../kernels/engine/device/probe.ts';
import { settingsByKey } from '../../node/config/settings.ts';

test('an unknown name is refused with the known ones', () => {
  assert.throws(
    () => parseDeviceChoice('gpu'),
    (error: Error) =>
      error instanceof UnknownDeviceError &&
      /unknown device "gpu"; known: auto, cpu, cuda, webgpu, directml, coreml/.test(error.message),
  );
  assert.throws(() => parsePrecisionChoice('fp8'), /unknown precision "fp8"; known: auto, fp32, fp16, bf16/);
  assert.throws(() => parseBackendChoice('torch'), /unknown backend "torch"; known: auto, onnx, native/);
  for (const device of DEVICE_CHOICES) assert.is(parseDeviceChoice(device), device);
  assert.equal([...DEVICES, 'auto'].sort(), [...DEVICE_CHOICES].sort());
});

test('the settings accept what the kernels know', () => {
  const said = (key: string, choices: readonly string[]) => {
    const { schema } = settingsByKey.get(key)!;
    for (const value of choices)
      assert.not('issues' in schema['~run']({ value }, {}) && schema['~run']({ value }, {}).issues);
    assert.ok(schema['~run']({ value: 'other' }, {}).issues);
  };
  said('engine.device', DEVICE_CHOICES);
  said('engine.precision', PRECISION_CHOICES);
  said('engine.backend', BACKEND_CHOICES);
});

const works = (device: Device, gflops: number, halfGflops: number | null = null): DeviceProbe => ({
  device,
  works: true,
  gflops,
  halfGflops,
  trainingTokensPerSecond: null,
  native: null,
});

/** Chooses where only the devices given work, and CUDA and WebGPU are the GPUs that this system can have. */
async function choose(request: Partial<DeviceRequest>, ...working: readonly DeviceProbe[]) {
  const probed: Device[] = [];
  const probe = async (device: Device): Promise<DeviceProbe> => {
    probed.push(device);
    const found = working.find((candidate) => candidate.device === device);
    return found ?? { device, works: false, reason: 'it is not there', remedy: 'buy one' };
  };
  const outcome = await chooseDevice({ device: 'auto', precision: 'auto', threads: 1, ...request }, {}, probe).catch(
    (error: Error) => error,
  );
  return { outcome, probed };
}

/** The one GPU device that every system of the tests has a provider for. */
const gpu = 'webgpu';
const here = process.platform === 'linux' && process.arch === 'x64';

if (!here) test.skip('auto and named devices (written for the devices of linux-x64)', () => {});
else {
  test('auto takes a GPU that beats the CPU, in fp16 where that is no slower', async () => {
    const fast = await choose({}, works('cpu', 100), works(gpu, 500, 900));
    assert.equal(fast.outcome, {
      device: gpu,
      precision: 'fp16',
      refused: ['cuda: it is not there'],
    });
    const slowHalf = await choose({}, works('cpu', 100), works(gpu, 500, 400));
    assert.is((slowHalf.outcome as { precision: string }).precision, 'fp32');
    const asked = await choose({ precision: 'fp32' }, works('cpu', 100), works(gpu, 500, 900));
    assert.is((asked.outcome as { precision: string }).precision, 'fp32');
  });

  test('auto falls back to the CPU and says why not the others', async () => {
    const nothing = await choose({}, works('cpu', 100));
    assert.equal(nothing.outcome, {
      device: 'cpu',
      precision: 'fp32',
      refused: ['cuda: it is not there', 'webgpu: it is not there'],
    });
    const software = await choose({}, works('cpu', 100), works(gpu, 0.5));
    assert.match(
      String((software.outcome as { refused: readonly string[] }).refused),
      /slower than the CPU \(0\.5 against 100 GFLOP\/s\)/,
    );
    assert.is((software.outcome as { device: string }).device, 'cpu');
  });

  test('a GPU has to beat the CPU as the native backend uses it', async () => {
    const cpu = {
      ...works('cpu', 100),
      trainingTokensPerSecond: 50,
      native: { instructionSet: 'x', fp32: 70, bf16: 200 },
    };
    const takes = async (nativePrecision: 'fp32' | 'bf16') =>
      (await choose({ nativePrecision }, cpu as DeviceProbe, works(gpu, 300))).outcome as { device: string };
    assert.is((await takes('fp32')).device, gpu);
    assert.is((await takes('bf16')).device, 'cpu');
  });

  test('a named device that does not work is an error that says what to do; the CPU is not even probed', async () => {
    const { outcome } = await choose({ device: 'cuda' }, works('cpu', 100));
    assert.instance(outcome, DeviceUnavailableError);
    assert.match(
      (outcome as Error).message,
      /device cuda does not work here: it is not there; buy one; or use --device auto/,
    );
    const cpu = await choose({ device: 'cpu' });
    assert.equal(cpu.probed, []);
  });

  test('fp16 by name needs a device that has it', async () => {
    assert.instance((await choose({ device: 'cpu', precision: 'fp16' })).outcome, DeviceUnavailableError);
    assert.instance(
      (await choose({ device: gpu, precision: 'fp16' }, works(gpu, 500))).outcome,
      DeviceUnavailableError,
    );
    const none = await choose({ precision: 'fp16' }, works('cpu', 1), works(gpu, 500));
    assert.match(
      (none.outcome as Error).message,
      /no device here computes in fp16 \(cuda: it is not there; webgpu: no fp16\)/,
    );
  });

  test('CUDA without its files is ruled out at once, with the libraries that are looked up', async () => {
    const probe = await probeDevice('cuda', { threads: 1 });
    // Where somebody has installed the provider, this machine is not the one to test it on.
    if (probe.works || !/not installed/.test(probe.reason)) return;
    assert.match(probe.reason, /libonnxruntime_providers_cuda\.so/);
    assert.match(probe.remedy, /libcudart\.so\.12.*libcublas\.so\.12.*libcudnn\.so\.9.*LD_LIBRARY_PATH/);
  });

  test('a device of another system is ruled out', async () => {
    const probe = await probeDevice('directml', { threads: 1 });
    assert.equal(probe, {
      device: 'directml',
      works: false,
      reason: 'onnxruntime has none for linux-x64 (only win32-x64, win32-arm64)',
      remedy: '',
    });
  });
}

test('the CPU is measured in a process of its own', async () => {
  const probe = await probeDevice('cpu', { threads: 1 });
  assert.ok(probe.works, JSON.stringify(probe));
  assert.ok(probe.works && probe.gflops > 0);
  assert.is(probe.works && probe.trainingTokensPerSecond, null);
});

test('a driver that crashes takes nobody with it', async () => {
  const program = new URL('./crashing-driver.ts', import.meta.url);
  const probe = await probeDevice('cpu', { threads: 1, program });
  assert.equal(probe, {
    device: 'cpu',
    works: false,
    reason: 'its driver crashed (SIGSEGV)',
    remedy: 'update its driver',
  });
});

test('a probe that is given up ends with the reason', async () => {
  const stopping = new AbortController();
  const probing = probeDevice('cpu', { threads: 1, signal: stopping.signal });
  stopping.abort(new Error('given up'));
  try {
    await probing;
    assert.unreachable();
  } catch (error) {
    assert.is((error as Error).message, 'given up');
  }
});

test('native errors become a reason and a remedy', () => {
  const vulkan = explainFailure('webgpu', 'No supported adapters', "Couldn't load Vulkan: libvulkan.so.1: cannot open");
  assert.is(vulkan.reason, 'no Vulkan loader (libvulkan.so.1)');
  assert.match(vulkan.remedy, /apt install libvulkan1/);
  const adapter = explainFailure('webgpu', 'Failed to get a WebGPU adapter: No supported adapters', '');
  assert.match(adapter.remedy, /driver of your GPU/);
  const library = explainFailure('cuda', 'libcublasLt.so.12: cannot open shared object file: No such file', '');
  assert.is(library.reason, 'libcublasLt.so.12 is missing');
  assert.match(library.remedy, /LD_LIBRARY_PATH/);
  const long = explainFailure('webgpu', `products: /a/b.cc:1 f() x was false. ${'y'.repeat(1000)}\nmore`, '');
  assert.ok(long.reason.length < 200 && !long.reason.includes('\n'));
});

test.run();
