// time-limit: 240 s
// test-time-limit: 200 s
/**
 * The WebGPU provider without a GPU: Debian's chromium brings SwiftShader, a Vulkan driver in software. Slow, and the same
 * shaders as on a GPU. Where it is not installed, this is skipped.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

const chromium = '/usr/lib/chromium';
const driver = `${chromium}/vk_swiftshader_icd.json`;

interface Work {
  readonly loss: number;
  readonly gradient: readonly number[];
  readonly losses: readonly number[];
  readonly placements: readonly string[];
}
interface Both<T> {
  readonly cpu: T;
  readonly webgpu: T;
}
interface Results {
  readonly blocks: Both<Work>;
  readonly whole: Both<Work>;
  readonly session: Both<readonly number[]>;
}

/** Largest difference in units of the largest value. */
function difference(a: readonly number[], b: readonly number[]): number {
  assert.is(a.length, b.length);
  const largest = b.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0) / largest;
}

if (!existsSync(driver)) {
  console.log(`skipped: ${driver} is not there (Debian: apt install chromium)`);
  test.skip('WebGPU against the CPU', () => {});
} else {
  let results: Results;
  test.before(async () => {
    const child = fileURLToPath(new URL('./webgpu-child.ts', import.meta.url));
    const { stdout } = await promisify(execFile)(process.execPath, [child], {
      // The loader comes with chromium, too; a system without a GPU need not have its own.
      env: { ...process.env, VK_DRIVER_FILES: driver, LD_LIBRARY_PATH: chromium },
      maxBuffer: 64 * 2 ** 20,
    });
    results = JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Results;
  });

  for (const memory of ['blocks', 'whole'] as const) {
    test(`forward, backward and evaluation equal the CPU's, ${memory}`, () => {
      const { cpu, webgpu } = results[memory];
      assert.ok(Math.abs(webgpu.loss - cpu.loss) < 1e-5, `${webgpu.loss} against ${cpu.loss}`);
      assert.ok(difference(webgpu.losses, cpu.losses) < 1e-5);
      assert.ok(difference(webgpu.gradient, cpu.gradient) < 1e-5, String(difference(webgpu.gradient, cpu.gradient)));
    });
  }

  test('all nodes run on the device, but the split of the int64 targets (docs/measuring.md)', () => {
    const onCpu = ({ placements }: Work) => [
      ...new Set(placements.filter((placement) => !placement.startsWith('WebGpuExecutionProvider '))),
    ];
    assert.ok(results.blocks.webgpu.placements.length > 100);
    assert.equal(onCpu(results.blocks.webgpu), []);
    assert.equal(onCpu(results.whole.webgpu), ['CPUExecutionProvider Split']);
    assert.ok(results.blocks.cpu.placements.every((placement) => placement.startsWith('CPUExecutionProvider ')));
  });

  test('a model session trains on it in its worker thread', () => {
    const { cpu, webgpu } = results.session;
    assert.is(cpu.length, 2);
    assert.ok(difference(webgpu, cpu) < 1e-5, `${webgpu} against ${cpu}`);
  });
}

test.run();
