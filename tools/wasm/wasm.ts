/**
 * `npm run wasm [-- --check]`: compiles the hot loops from AssemblyScript and writes them, as text, into
 * kernels/wasm/hot-loops-binary.ts. The result is committed, so that nothing has to be built to run; with --check it is
 * only compared. Exit code 0 when done or equal, 1 when the committed bytes are not those of the source.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { buildHotLoops, renderBinary } from './build.ts';

const { values } = parseArgs({ options: { check: { type: 'boolean' } } });
const target = fileURLToPath(new URL('../../kernels/wasm/hot-loops-binary.ts', import.meta.url));
const text = renderBinary(await buildHotLoops());
if (values.check !== true) await writeFile(target, text);
else if ((await readFile(target, 'utf8')) !== text) {
  console.error('kernels/wasm/hot-loops-binary.ts is not what its source compiles to: run "npm run wasm"');
  process.exitCode = 1;
}
