/** The engines that run here, against what every engine must do. */
// time-limit: 120 s
import { test } from 'uvu';
import { createEngine } from '../../kernels/engine/onnx-engine.ts';
import { engineCompliance } from './engine-compliance.ts';

for (const memory of ['whole', 'blocks'] as const)
  engineCompliance(memory, (init) => createEngine({ ...init, threads: 1, memory }));

test.run();
