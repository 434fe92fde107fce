/** The native engine, on every instruction set that is built and that this processor has, against what every engine must do. */
// time-limit: 120 s
import { test } from 'uvu';
import { loadNativeLibrary, usableInstructionSets } from '../../kernels/native/library.ts';
import { createNativeEngine } from '../../kernels/native/native-engine.ts';
import { engineCompliance } from './engine-compliance.ts';

const usable = usableInstructionSets({ emulated: true });
if (usable.length === 0) test.skip('native engine: not built (npm run build:native)', () => {});

for (const instructionSet of usable) {
  for (const memory of ['whole', 'blocks'] as const) {
    // Recomputation is the same code on every instruction set: the fastest will do.
    if (memory === 'blocks' && instructionSet !== usable.at(-1)) continue;
    engineCompliance(`native ${instructionSet} ${memory}`, (init) =>
      createNativeEngine({ ...init, threads: 2, memory, instructionSet, variants: 'exact' }),
    );
  }
  if (!loadNativeLibrary(instructionSet).bf16) continue;
  // An operand has 8 bits: single numbers of a gradient can be off by a fifth of the largest, norms by far less (native.test.ts).
  engineCompliance(
    `native ${instructionSet} bf16, variants as differences`,
    (init) => createNativeEngine({ ...init, threads: 2, precision: 'bf16', instructionSet, variants: 'differences' }),
    { tolerance: 0.2, variants: 'near' },
  );
}

test.run();
