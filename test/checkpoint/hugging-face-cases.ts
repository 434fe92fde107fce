/** Models that are exported in tests, and what PyTorch code made of the folders (vectors/read_hugging_face.py). */
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { modelRoot } from '../../kernels/aggregate/model-root.ts';
import { writeWeights } from '../../kernels/checkpoint/model-state.ts';
import { parameterCount, tensorLayout } from '../../kernels/model/layout.ts';
import { type Preset, parsePreset } from '../../kernels/model/preset.ts';
import { presetHash } from '../../kernels/model/preset-hash.ts';
import { seededTokens, seededUniform } from '../kernels/seeded.ts';

const base = { layers: 2, hidden: 24, ffn: 20, vocabulary: 29, context: 7, normEpsilon: 1e-5 };

/** Grouped heads with a head of its own; one key/value head, tied, other rotary base and epsilon. */
export const CASES: readonly Preset[] = [
  parsePreset({ ...base, name: 'grouped', queryHeads: 6, keyValueHeads: 2, ropeTheta: 10_000, tied: false }),
  parsePreset({
    ...base,
    name: 'tied',
    layers: 3,
    queryHeads: 4,
    keyValueHeads: 1,
    ropeTheta: 500,
    normEpsilon: 0.01,
    tied: true,
  }),
];

/** Weights uniform in [-0.5, 0.5), norms one larger: large enough for logits that differ. */
export function weightsOf(preset: Preset, seed = 5): Float32Array {
  const uniform = seededUniform(seed);
  const weights = new Float32Array(parameterCount(preset));
  for (const { offset, length, shape } of tensorLayout(preset)) {
    for (let i = 0; i < length; i++) weights[offset + i] = (shape.length === 1 ? 1 : 0) + uniform() - 0.5;
  }
  return weights;
}

/** Three sequences of full length. */
export function sequencesOf(preset: Preset): number[][] {
  const tokens = seededTokens(9, 3, preset.context - 1, preset.vocabulary);
  return [0, 1, 2].map((i) => [...tokens.slice(i * preset.context, (i + 1) * preset.context)]);
}

/** Writes the weights of a case as a tensor file of round 12 and returns their root. */
export async function writeCase(path: string, preset: Preset, weights = weightsOf(preset)): Promise<string> {
  const root = modelRoot(weights);
  await writeWeights(path, { round: 12, presetHash: presetHash(preset), modelRoot: root, weights });
  return root;
}

/** Runs `work` in a temporary folder that is gone afterwards. */
export async function inFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'alice-model-'));
  try {
    await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const SCRIPT = fileURLToPath(new URL('./vectors/read_hugging_face.py', import.meta.url));

const PYTHON = process.platform === 'linux' ? '/usr/bin/python3' : 'python3';

/** Whether this machine can run the script: not everywhere is PyTorch. */
export function hasPyTorch(): boolean {
  return spawnSync(PYTHON, ['-c', 'import torch']).status === 0;
}

/** Logits of the last position of each sequence, by PyTorch from the folder. */
export function logitsByPyTorch(folder: string, sequences: readonly number[][]): number[][] {
  const run = spawnSync(PYTHON, [SCRIPT, folder], { input: JSON.stringify(sequences), encoding: 'utf8' });
  if (run.status !== 0) throw new Error(run.stderr);
  return (JSON.parse(run.stdout) as { logits: number[][] }).logits;
}
