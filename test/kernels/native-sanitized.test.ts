/**
 * The native engine's tests once more, on libraries that were compiled with the address and undefined-behaviour sanitizers
 * for every instruction set that this processor has, and for the emulated one. They are built for this, aside.
 */
// time-limit: 900 s
import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

const pathOf = (name: string) => fileURLToPath(new URL(name, import.meta.url));

/** The sanitizers' libraries, which a program that is not compiled with them loads first; undefined without them. */
function sanitizers(): string | undefined {
  if (process.platform !== 'linux') return undefined;
  const files = ['libasan.so', 'libubsan.so'].map((name) =>
    spawnSync('g++', [`-print-file-name=${name}`], { encoding: 'utf8' }).stdout?.trim(),
  );
  return files.every((file) => file && isAbsolute(file) && existsSync(file)) ? files.join(':') : undefined;
}

/** Runs a script by this Node to its end. */
async function run(script: string, parameters: readonly string[], environment: Readonly<Record<string, string>>) {
  const child = spawn(process.execPath, [pathOf(script), ...parameters], { env: { ...process.env, ...environment } });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (output += data));
  const code = await new Promise((resolve, reject) => child.on('error', reject).on('close', resolve));
  return { code, output };
}

const preload = sanitizers();
if (preload === undefined) test.skip('native engine under sanitizers: no g++ with libasan and libubsan here', () => {});
else {
  test('native engine: its tests find nothing under the address and undefined-behaviour sanitizers', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'alice-sanitized-'));
    try {
      const options = ['--sanitize', '--emulate-amx', '--folder', folder];
      const built = await run('../../kernels/native/build.ts', options, { CXX: 'g++' });
      assert.is(built.code, 0, built.output);
      // Leaks of a whole Node are not looked for.
      const environment = {
        ALICE_NATIVE_LIBRARIES: folder,
        ASAN_OPTIONS: 'detect_leaks=0',
        UBSAN_OPTIONS: 'print_stacktrace=1',
      };
      const bare = await run('native.test.ts', [], environment);
      assert.match(bare.output, /ASan runtime does not come first/, 'the libraries are not instrumented');
      const sanitized = { ...environment, LD_PRELOAD: preload };
      const suites = ['native.test.ts', 'native-boundary.test.ts', 'native-compliance.test.ts'];
      const [fuzzed, ...results] = await Promise.all([
        run('../../tools/fuzz/fuzz.ts', ['native', '--inputs', '3000', '--threads', '1'], sanitized),
        ...suites.map((file) => run(file, [], sanitized)),
      ]);
      assert.is(fuzzed.code, 0, fuzzed.output);
      for (const { code, output } of results) {
        assert.is(code, 0, output);
        const [, total, passed] = /Total: +(\d+)\s+Passed: +(\d+)\s/.exec(output) ?? [];
        assert.ok(Number(total) > 0 && passed === total, output);
      }
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
}

test.run();
