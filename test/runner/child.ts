/**
 * Entry of a test process: loads one test file with the instrumented uvu in place of uvu, runs it, and reports.
 *
 * An entry rather than a `--import` preload, because worker threads and forked processes inherit `process.execArgv`
 * and would then run a preload too.
 */

import { registerHooks } from 'node:module';
import { pathToFileURL } from 'node:url';
import { inspect } from 'node:util';
import { type ChildOptions, childOptionsVariable } from './protocol.ts';

const encoded = process.env[childOptionsVariable];
if (encoded === undefined) throw new Error('test/runner/child.ts is started by test/runner/run.ts only');
delete process.env[childOptionsVariable];
const options = JSON.parse(encoded) as ChildOptions;

// uvu then neither runs the suites by a timer of its own nor expects its own command line.
const uvuGlobals = globalThis as typeof globalThis & {
  UVU_DEFER?: number;
  UVU_QUEUE?: unknown[][];
  UVU_INDEX?: number;
};
uvuGlobals.UVU_DEFER = 1;
uvuGlobals.UVU_QUEUE = [[null]];
uvuGlobals.UVU_INDEX = 0;

const { exec, report, setTestLimit } = await import('./instrumented-uvu.ts');
setTestLimit(options.testLimitMs);

const instrumentedUrl = new URL('./instrumented-uvu.ts', import.meta.url).href;
registerHooks({
  resolve: (specifier, context, nextResolve) =>
    specifier === 'uvu' ? { url: instrumentedUrl, shortCircuit: true } : nextResolve(specifier, context),
});

// A monitor does not catch: the process still dies of it as it would without the runner.
process.on('uncaughtExceptionMonitor', (error, origin) => {
  report({ kind: 'uncaught', origin, text: inspect(error) });
});

process.argv[1] = options.file;
await import(pathToFileURL(options.file).href);
await exec(false);
report({ kind: 'finished' });

// Nothing ends the process: a test file that leaves a socket, timer or child open is at fault, and is told which.
setTimeout(() => {
  report({ kind: 'lingering', resources: process.getActiveResourcesInfo() });
  process.exit(1);
}, options.lingerMs).unref();
