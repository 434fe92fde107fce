/** Headers of safetensors files and config.json, from models of strangers. */
import { encodeConfig, parseConfig } from '../../../kernels/checkpoint/hugging-face-config.ts';
import { ModelFolderError } from '../../../kernels/checkpoint/safetensors-errors.ts';
import {
  encodeSafetensorsHeader,
  parseSafetensorsHeader,
  SAFETENSORS_PREFIX_BYTES,
  safetensorsHeaderLength,
} from '../../../kernels/checkpoint/safetensors-header.ts';
import { presets } from '../../../kernels/model/preset.ts';
import { requireSound } from '../target.ts';

export const describe = 'safetensors headers and config.json';

export const headBytes = 64;

/** First byte of an input that is a config.json: no header of 123 bytes and more starts so, and JSON does. */
const OPENING_BRACE = 0x7b;

/** Whole files with one tensor, several, none; and configurations. */
export function seeds(): Uint8Array[] {
  const entry = (name: string, dtype: string, shape: number[], begin: number, bytes: number) => {
    return { name, dtype, shape, begin, end: begin + bytes };
  };
  const files = [
    encodeSafetensorsHeader([], {}),
    Buffer.concat([encodeSafetensorsHeader([entry('a', 'F32', [2], 0, 8)], { format: 'pt' }), Buffer.alloc(8)]),
    Buffer.concat([
      encodeSafetensorsHeader(
        [
          entry('model.embed_tokens.weight', 'BF16', [3, 2], 0, 12),
          entry('model.norm.weight', 'F16', [2], 12, 4),
          entry('scalar', 'I64', [], 16, 8),
          entry('empty', 'BOOL', [0, 7], 24, 0),
        ],
        { format: 'pt', 'alice.round': '3' },
      ),
      Buffer.alloc(24),
    ]),
  ];
  const configs = [presets['alice-nano'], presets['alice-7b'], presets['alice-125m']].map(encodeConfig);
  return [...files, ...configs.map((text) => new TextEncoder().encode(text))];
}

/** JSON of two bytes can become an object of some hundred: a tensor's entry takes 20 bytes of text and makes five. */
export function allocationCap(inputBytes: number): number {
  return 128 * 1024 + 128 * inputBytes;
}

export function run(input: Uint8Array): string {
  try {
    if (input[0] === OPENING_BRACE && input[1] !== 0) {
      const preset = parseConfig(Buffer.from(input).toString('utf8'));
      requireSound(parseConfig(encodeConfig(preset)).hidden === preset.hidden, 'a preset survives being written');
      return 'accepted';
    }
    const length = safetensorsHeaderLength(input, input.length);
    const dataStart = SAFETENSORS_PREFIX_BYTES + length;
    const dataBytes = input.length - dataStart;
    const { tensors } = parseSafetensorsHeader(input.subarray(SAFETENSORS_PREFIX_BYTES, dataStart), dataBytes);
    let at = 0;
    for (const { begin, end, shape } of tensors) {
      requireSound(begin === at && end >= begin && end <= dataBytes, 'tensors fill the data in order');
      requireSound(shape.every(Number.isSafeInteger), 'dimensions are whole');
      at = end;
    }
    requireSound(at === dataBytes, 'no byte belongs to no tensor');
    return 'accepted';
  } catch (error) {
    if (error instanceof ModelFolderError) return error.code;
    throw error;
  }
}
