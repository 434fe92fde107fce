/** The one hash by which submissions and files name a preset. */
import { createHash } from 'node:crypto';
import { type Preset, parsePreset, presetRecord } from './preset.ts';

/** Domain tag; change it and no file or submission of before is accepted. */
const TAG = 'alice/preset/1';

/**
 * Hash of everything in a preset that changes what a model computes or how its tensors lie: every field but `name`,
 * which is for people. 64 lower-case hex characters.
 *
 * SHA-256 over: one byte with the length of the tag `alice/preset/1`, the tag, then the fields as canonical JSON
 * (RFC 8785: one object, keys in ascending order, no white space, numbers as ECMAScript prints them) in UTF-8. For
 * `alice-nano` that text is
 *
 *     {"context":128,"ffn":512,"hidden":192,"keyValueHeads":2,"layers":4,"normEpsilon":0.00001,"queryHeads":6,
 *     "ropeTheta":10000,"tied":false,"vocabulary":4096}
 *
 * in one line. Throws {@link InvalidPresetError} for what is no preset, so that no stray field gets into a hash.
 */
export function presetHash(preset: Preset): string {
  const { name: _forPeople, ...fields } = presetRecord(parsePreset(preset));
  // Keys are ASCII and values scalar: sorted keys are all that JSON.stringify lacks for RFC 8785.
  const sorted = Object.fromEntries(Object.entries(fields).sort(([a], [b]) => (a < b ? -1 : 1)));
  return createHash('sha256')
    .update(Uint8Array.of(TAG.length))
    .update(TAG)
    .update(JSON.stringify(sorted), 'utf8')
    .digest('hex');
}
