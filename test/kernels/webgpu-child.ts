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
import { smallPreset } from './small-preset.ts';
import { seed, sessionInit } from './small-session.ts';

/** One layer where each would run its own copy of the same shaders: a driver in software takes its time. */
const oneLayer = { ...smallPreset, layers: 1 };
const tokens = seededTokens(4, 2, smallPreset.context, smallPreset.vocabulary);

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

async function work(options: Pick<EngineOptions, 'preset' | 'device' | 'memory'>) {
  const folder = await mkdtemp(join(tmpdir(), 'alice-webgpu-'));
  try {
    const engine = createEngine({
      threads: 1,
      batch: 2,
      headRows: 16,
      profilePrefix: join(folder, 'profile'),
      ...options,
    });
    engine.loadWeights(initialWeights(options.preset, new Uint8Array(32).fill(3)));
    const { loss, gradient } = await engine.lossAndGradient(tokens);
    const outcome = { loss, gradient: [...gradient], losses: [...(await engine.losses(tokens))] };
    // Profiles are complete when sessions end.
    await engine.close();
    return { ...outcome, placements: placements(folder) };
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** As a role does it: in a worker thread. Losses before the steps: the second follows from the first one's gradient. */
async function session(device: 'cpu' | 'webgpu') {
  const model = await ModelClient.start({
    ...sessionInit({ preset: oneLayer, recipe: { batchSequences: 2 } }),
    device,
  });
  try {
    await model.initialize(seed);
    const steps = seededTokens(7, 4, oneLayer.context, oneLayer.vocabulary);
    const { losses } = await model.train({ tokens: steps, learningRate: 0.003 });
    return losses;
  } finally {
    await model.close();
  }
}

const blocks = { preset: smallPreset, memory: 'blocks' } as const;
const whole = { preset: oneLayer, memory: 'whole' } as const;
const results = {
  blocks: { cpu: await work({ ...blocks, device: 'cpu' }), webgpu: await work({ ...blocks, device: 'webgpu' }) },
  whole: { cpu: await work({ ...whole, device: 'cpu' }), webgpu: await work({ ...whole, device: 'webgpu' }) },
  session: { cpu: await session('cpu'), webgpu: await session('webgpu') },
};
process.stdout.write(`${JSON.stringify(results)}\n`, () => process.exit(0));
