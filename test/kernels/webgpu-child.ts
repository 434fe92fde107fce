/**
 * The part of webgpu.test.ts that needs a Vulkan driver in its environment from the start: the same work on the CPU and on
 * WebGPU. Prints one JSON object.
 */
import { globSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createEngine, type EngineOptions } from '../../kernels/engine/onnx-engine.ts';
import { initialWeights } from '../../kernels/model/initialize.ts';
import { ModelClient } from '../../kernels/session/model-client.ts';
import { seededTokens } from './seeded.ts';
import { smallPreset as preset } from './small-preset.ts';
import { seed, sessionInit } from './small-session.ts';

const weights = initialWeights(preset, new Uint8Array(32).fill(3));
const tokens = seededTokens(4, 2, preset.context, preset.vocabulary);

/** `provider operator` of every node that ran, from onnxruntime's profiles. */
function placements(folder: string): string[] {
  return globSync(join(folder, '*.json')).flatMap((path) => {
    const events = JSON.parse(readFileSync(path, 'utf8')) as {
      cat: string;
      args?: { provider?: string; op_name?: string };
    }[];
    return events.flatMap(({ cat, args }) =>
      cat === 'Node' && args?.provider !== undefined ? [`${args.provider} ${args.op_name}`] : [],
    );
  });
}

async function work(options: Pick<EngineOptions, 'device' | 'memory'>) {
  const folder = await mkdtemp(join(tmpdir(), 'alice-webgpu-'));
  try {
    const engine = createEngine({
      preset,
      threads: 1,
      batch: 2,
      headRows: 16,
      profilePrefix: join(folder, 'profile'),
      ...options,
    });
    engine.loadWeights(weights);
    const { loss, gradient } = await engine.lossAndGradient(tokens);
    const outcome = { loss, gradient: [...gradient], losses: [...(await engine.losses(tokens))] };
    // Profiles are complete when sessions end.
    await engine.close();
    return { ...outcome, placements: placements(folder) };
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** As a role does it: in a worker thread, one training round and its submission. */
async function session(device: 'cpu' | 'webgpu') {
  const model = await ModelClient.start({ ...sessionInit(), device });
  try {
    await model.initialize(seed);
    const work = seededTokens(7, 8, preset.context, preset.vocabulary);
    const { losses } = await model.train({ tokens: work, learningRate: 0.003 });
    return losses;
  } finally {
    await model.close();
  }
}

const results = {
  cpu: await work({ device: 'cpu', memory: 'blocks' }),
  blocks: await work({ device: 'webgpu', memory: 'blocks' }),
  whole: await work({ device: 'webgpu', memory: 'whole' }),
  cpuSession: await session('cpu'),
  webgpuSession: await session('webgpu'),
};
process.stdout.write(`${JSON.stringify(results)}\n`, () => process.exit(0));
