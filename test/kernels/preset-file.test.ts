import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parameterCount } from '../../kernels/model/layout.ts';
import { blockBytes, residentTrainingBytes, weightsBytes } from '../../kernels/model/memory.ts';
import { InvalidPresetError, type Preset, presetRecord, presets } from '../../kernels/model/preset.ts';
import { readPresetFile, resolvePreset } from '../../kernels/model/preset-file.ts';

let folder = '';
test.before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'alice-preset-'));
});
test.after(async () => {
  await rm(folder, { recursive: true });
});

const mine = { ...presetRecord(presets['alice-nano']), name: 'mine', layers: 2 };

async function file(content: unknown): Promise<string> {
  const path = join(folder, 'mine.json');
  await writeFile(path, typeof content === 'string' ? content : JSON.stringify(content));
  return path;
}

async function refused(content: unknown): Promise<string> {
  const path = await file(content);
  try {
    await readPresetFile(path);
  } catch (error) {
    assert.instance(error, InvalidPresetError);
    const { message } = error as Error;
    assert.ok(message.includes(path), message);
    assert.not(message.includes('\n'), message);
    return message;
  }
  return assert.unreachable() as never;
}

test('a preset file is read, and a name still names a built-in preset', async () => {
  assert.equal({ ...(await resolvePreset(await file(mine))) }, mine);
  assert.is(await resolvePreset('alice-tiny'), presets['alice-tiny']);
  // Comparing by shape, a copy of a built-in preset is that preset.
  const copy = presetRecord(presets['alice-tiny']);
  assert.equal({ ...(await resolvePreset(await file(copy))) }, copy);
});

test('each mistake names the file and the field', async () => {
  assert.match(await refused({ ...mine, layers: 'two' }), /preset: layers: /);
  assert.match(await refused({ ...mine, hidden: 0 }), /preset: hidden: /);
  assert.match(await refused({ ...mine, colour: 'red' }), /colour/);
  const { vocabulary: _, ...without } = mine as Record<string, unknown>;
  assert.match(await refused(without), /vocabulary/);
  assert.match(await refused({ ...mine, hidden: 100 }), /hidden 100 is not a multiple of 6 query heads/);
  assert.match(await refused({ ...mine, keyValueHeads: 4 }), /6 query heads are not a multiple of 4/);
  assert.match(await refused({ ...mine, name: 'alice-7b' }), /name: alice-7b is a built-in preset of another shape/);
  assert.match(await refused('{'), /is not JSON/);
  assert.match(await refused([mine]), /expected one JSON object/);
  assert.match(await refused(' '.repeat(70_000)), /too large/);
});

test('a file that is not there, and an unknown name', async () => {
  for (const [given, says] of [
    [join(folder, 'none.json'), /cannot read the preset .*none\.json/],
    [`${folder}/`, /cannot read the preset/],
    ['alice-huge', /unknown preset "alice-huge"; known: alice-nano/],
  ] as const) {
    try {
      await resolvePreset(given);
      assert.unreachable();
    } catch (error) {
      assert.instance(error, InvalidPresetError);
      assert.match((error as Error).message, says);
    }
  }
});

test('memory follows from the tensors', () => {
  for (const preset of Object.values<Preset>(presets)) {
    assert.is(weightsBytes(preset), 4 * parameterCount(preset));
    assert.ok(residentTrainingBytes(preset) >= 7 * weightsBytes(preset));
    const outside = preset.vocabulary * preset.hidden * (preset.tied ? 1 : 2) + preset.hidden;
    assert.is(preset.layers * blockBytes(preset), weightsBytes(preset) - 4 * outside);
  }
});

test.run();
