/** A model small enough for tests that train. */
import { parsePreset } from '../../kernels/model/preset.ts';

export const smallPreset = parsePreset({
  name: 'test',
  layers: 2,
  hidden: 32,
  queryHeads: 4,
  keyValueHeads: 2,
  ffn: 48,
  vocabulary: 64,
  context: 16,
  ropeTheta: 10_000,
  normEpsilon: 1e-5,
  tied: false,
});
