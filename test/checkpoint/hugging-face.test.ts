/** Export, what PyTorch reads from it, and import back to the same root. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { encodeConfig, huggingFaceNames, parseConfig } from '../../kernels/checkpoint/hugging-face-config.ts';
import { exportModel, SAFETENSORS_INDEX_FILE } from '../../kernels/checkpoint/model-export.ts';
import { importModel, rootOfFolder, rootOfTensorFile } from '../../kernels/checkpoint/model-import.ts';
import { readWeights } from '../../kernels/checkpoint/model-state.ts';
import { createEngine } from '../../kernels/engine/onnx-engine.ts';
import { parameterCount } from '../../kernels/model/layout.ts';
import { type Preset, presets } from '../../kernels/model/preset.ts';
import { presetHash } from '../../kernels/model/preset-hash.ts';
import { sameBits } from '../aggregate/updates.ts';
import {
  CASES,
  hasPyTorch,
  inFolder,
  logitsByPyTorch,
  sequencesOf,
  weightsOf,
  writeCase,
} from './hugging-face-cases.ts';

interface Vector {
  readonly preset: string;
  readonly sha256: string;
  readonly sequences: number[][];
  readonly logits: number[][];
}

const vectors = JSON.parse(readFileSync(new URL('./vectors/hugging-face.json', import.meta.url), 'utf8')) as Vector[];

/** Log of the softmax: logits but for the constant that no loss shows. */
function logSoftmax(logits: readonly number[]): number[] {
  const largest = Math.max(...logits);
  const sum = logits.reduce((total, logit) => total + Math.exp(logit - largest), 0);
  return logits.map((logit) => logit - largest - Math.log(sum));
}

/**
 * Our engine's log-probabilities of every token after a sequence: of sequences that differ in their last target only, the
 * losses differ by what that target costs.
 */
async function logProbabilities(preset: Preset, weights: Float32Array, sequence: readonly number[]): Promise<number[]> {
  const engine = createEngine({ preset, threads: 1, batch: preset.vocabulary });
  engine.loadWeights(weights);
  const tokens = Array.from({ length: preset.vocabulary }, (_, target) => [...sequence, target]).flat();
  const losses = await engine.losses(Int32Array.from(tokens));
  await engine.close();
  return logSoftmax(Array.from(losses, (loss) => -loss * preset.context));
}

for (const [i, preset] of CASES.entries()) {
  const { sha256, sequences, logits } = vectors[i]!;

  test(`${preset.name}: the exported bytes are those that PyTorch read, and our engine gives the logits it gave`, async () => {
    await inFolder(async (folder) => {
      const source = join(folder, 'weights.bin');
      await writeCase(source, preset);
      const exported = join(folder, 'exported');
      await exportModel({ source, preset, folder: exported });
      const bytes = await readFile(join(exported, 'model.safetensors'));
      assert.is(createHash('sha256').update(bytes).digest('hex'), sha256);
      assert.equal(sequences, sequencesOf(preset));
      // What is compared comes back from the folder, so that export and import are part of it.
      const target = join(folder, 'imported.bin');
      await importModel({ source: exported, target });
      const identity = { presetHash: presetHash(preset), elements: parameterCount(preset) };
      const { weights } = await readWeights(target, identity);
      for (const [s, sequence] of sequences.entries()) {
        const expected = logSoftmax(logits[s]!);
        assert.ok(Math.max(...expected) - Math.min(...expected) > 2, 'logits that differ');
        for (const [token, ours] of (await logProbabilities(preset, weights, sequence)).entries()) {
          assert.ok(Math.abs(ours - expected[token]!) < 1e-4, `token ${token}: ${ours}, reference ${expected[token]}`);
        }
      }
    });
  });
}

// Where there is no PyTorch the test counts as skipped; the recorded logits above are checked everywhere.
const live = hasPyTorch() ? test : test.skip;
live('PyTorch itself gives the recorded logits, from one file and from shards', async () => {
  for (const [i, preset] of CASES.entries()) {
    await inFolder(async (folder) => {
      const source = join(folder, 'weights.bin');
      await writeCase(source, preset);
      for (const shardBytes of [undefined, 8000]) {
        const exported = join(folder, `exported-${shardBytes}`);
        await exportModel({ source, preset, folder: exported, shardBytes });
        assert.is(existsSync(join(exported, SAFETENSORS_INDEX_FILE)), shardBytes !== undefined);
        assert.equal(logitsByPyTorch(exported, vectors[i]!.sequences), vectors[i]!.logits);
      }
    });
  }
});

test('import of an export restores root, round and every bit, from one file and from shards', async () => {
  for (const preset of CASES) {
    for (const shardBytes of [undefined, 1, 4000, 20_000]) {
      await inFolder(async (folder) => {
        // Odd bits: both zeros, denormals, the largest numbers.
        const weights = weightsOf(preset);
        weights.set([0, -0, 1e-45, -1e-40, 3.4e38, -3.4e38], 17);
        const [source, target] = [join(folder, 'weights.bin'), join(folder, 'back.bin')];
        const root = await writeCase(source, preset, weights);
        const exported = join(folder, 'exported');
        const result = await exportModel({ source, preset, folder: exported, shardBytes, files: { 'note.txt': 'x' } });
        assert.equal(result.files, (await readdir(exported)).sort());
        assert.is(await readFile(join(exported, 'note.txt'), 'utf8'), 'x');
        assert.equal(await rootOfFolder(exported), { computed: root, claimed: root });
        const imported = await importModel({ source: exported, target });
        assert.is(imported.modelRoot, root);
        assert.is(imported.round, 12);
        assert.equal(imported.preset, preset);
        assert.is(Buffer.compare(await readFile(source), await readFile(target)), 0, 'the same file again');
        assert.equal((await rootOfTensorFile(target)).computed, root);
        const identity = { presetHash: presetHash(preset), elements: weights.length };
        assert.ok(sameBits((await readWeights(target, identity)).weights, weights));
        assert.equal((await readdir(folder)).sort(), ['back.bin', 'exported', 'weights.bin'], 'nothing left behind');
      });
    }
  }
});

test('a model of several chunks has its root computed across pieces and tensors', async () => {
  const preset = { ...CASES[0]!, hidden: 132, vocabulary: 5000, ffn: 300 };
  await inFolder(async (folder) => {
    const source = join(folder, 'weights.bin');
    const root = await writeCase(source, preset);
    const pieces: number[] = [];
    const exported = join(folder, 'exported');
    const onProgress = (done: number, total: number) => {
      assert.is(total, parameterCount(preset) * 4);
      pieces.push(done);
    };
    await exportModel({ source, preset, folder: exported }, { onProgress });
    assert.is(pieces.at(-1), parameterCount(preset) * 4);
    assert.ok(pieces.length > 4);
    assert.is((await importModel({ source: exported, target: join(folder, 'b') }, { onProgress })).modelRoot, root);
  });
});

test('presets and config.json are one another, for every preset there is', () => {
  for (const preset of [...Object.values<Preset>(presets), ...CASES]) {
    assert.equal(parseConfig(encodeConfig(preset)), preset);
    const names = huggingFaceNames(preset);
    assert.is(new Set(names).size, names.length);
    assert.is(names.includes('lm_head.weight'), !preset.tied);
  }
  const config = JSON.parse(encodeConfig(presets['alice-7b']));
  // What a Llama of that size is published with; the field names are those of LlamaConfig.
  assert.equal(config.architectures, ['LlamaForCausalLM']);
  assert.equal([config.num_key_value_heads, config.intermediate_size, config.head_dim], [8, 11_264, 128]);
});

test('a folder that exists is not written to, an interrupted export leaves none', async () => {
  const preset = CASES[0]!;
  await inFolder(async (folder) => {
    const source = join(folder, 'weights.bin');
    await writeCase(source, preset);
    const taken = join(folder, 'taken');
    await mkdir(taken);
    await writeFile(join(taken, 'mine'), '');
    const failure = async (work: Promise<unknown>) => {
      const error = await work.then(
        () => undefined,
        (reason: unknown) => reason,
      );
      return (error as { code?: string; name?: string } | undefined)?.code ?? (error as Error | undefined)?.name;
    };
    assert.is(await failure(exportModel({ source, preset, folder: taken })), 'ERR_MODEL_TARGET');
    assert.equal(await readdir(taken), ['mine']);
    const exported = join(folder, 'exported');
    const signal = AbortSignal.abort(new RangeError('stop'));
    assert.is(await failure(exportModel({ source, preset, folder: exported }, { signal })), 'RangeError');
    assert.is(await failure(exportModel({ source, preset: CASES[1]!, folder: exported })), 'ERR_TENSOR_FILE_MISMATCH');
    const bytes = await readFile(source);
    bytes[5000] ^= 1;
    await writeFile(source, bytes);
    assert.is(await failure(exportModel({ source, preset, folder: exported })), 'ERR_TENSOR_FILE_CONTENT');
    assert.equal((await readdir(folder)).sort(), ['taken', 'weights.bin']);
  });
});

test.run();
