/** `node tools/run.js FILE.ts [ARGUMENTS...]`: runs a file of this project on a Node that can (see bin/launch.js). */

import { resolve } from 'node:path';
import { launch } from '../bin/launch.js';

const file = process.argv[2];
if (file === undefined) {
  process.stderr.write('usage: node tools/run.js FILE.ts [ARGUMENTS...]\n');
  process.exitCode = 2;
} else {
  launch(resolve(file), process.argv.slice(2));
}
