/** Presets of one's own: a JSON file with the fields of a preset. */
import { open } from 'node:fs/promises';
import { InvalidPresetError, type Preset, parsePreset, presetByName, presetRecord, presets } from './preset.ts';

/** A preset is a dozen scalars. */
const LARGEST_FILE_BYTES = 64 * 1024;

/** True for what names a file and not a built-in preset: it has a folder or the ending .json. */
function isPath(nameOrFile: string): boolean {
  return /[/\\]|\.json$/i.test(nameOrFile);
}

/** The start of a file, one byte more than is allowed at most. Throws {@link InvalidPresetError}. */
async function readText(path: string): Promise<string> {
  try {
    await using file = await open(path);
    const { bytesRead, buffer } = await file.read(new Uint8Array(LARGEST_FILE_BYTES + 1), 0, LARGEST_FILE_BYTES + 1, 0);
    if (bytesRead > LARGEST_FILE_BYTES) throw new InvalidPresetError(`${path} is too large for a preset`);
    return new TextDecoder().decode(buffer.subarray(0, bytesRead));
  } catch (cause) {
    if (cause instanceof InvalidPresetError) throw cause;
    throw new InvalidPresetError(`cannot read the preset ${path}: ${(cause as Error).message}`, { cause });
  }
}

/**
 * Reads a preset file. Throws {@link InvalidPresetError} that names the file and the field that is wrong. The name of a
 * built-in preset is refused unless the fields are that one's, too.
 */
export async function readPresetFile(path: string): Promise<Preset> {
  const text = await readText(path);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new InvalidPresetError(`${path} is not JSON: ${(cause as Error).message}`, { cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new InvalidPresetError(`${path}: expected one JSON object; "alice model presets --json" shows examples`);
  let preset: Preset;
  try {
    preset = parsePreset(value as Record<string, unknown>);
  } catch (cause) {
    if (!(cause instanceof InvalidPresetError)) throw cause;
    throw new InvalidPresetError(`${path}: ${cause.message}`, { cause });
  }
  const known = Object.values<Preset>(presets).find(({ name }) => name === preset.name);
  if (known !== undefined && !samePreset(known, preset))
    throw new InvalidPresetError(`${path}: preset: name: ${preset.name} is a built-in preset of another shape`);
  return preset;
}

/** Whether two presets are the same, name included. */
export function samePreset(a: Preset, b: Preset): boolean {
  const record: Readonly<Record<string, unknown>> = presetRecord(b);
  return Object.entries(presetRecord(a)).every(([key, value]) => record[key] === value);
}

/** A preset by its name or, where that has a folder or ends in .json, from a file. Throws {@link InvalidPresetError}. */
export async function resolvePreset(nameOrFile: string): Promise<Preset> {
  return isPath(nameOrFile) ? await readPresetFile(nameOrFile) : presetByName(nameOrFile);
}
