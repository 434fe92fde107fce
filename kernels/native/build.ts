/**
 * `npm run build:native`: compiles the native CPU backend (docs/native.md), one library for each instruction set, with the
 * machine's own C++ compiler ($CXX, else g++ or clang++) and nothing downloaded.
 *
 * --sanitize adds the address and undefined-behaviour sanitizers; such libraries load with `LD_PRELOAD=libasan.so`.
 * --emulate-amx also builds the library that computes AMX's tiles in software, for tests.
 * --arch NAME is the architecture that $CXX compiles for, as Node names it; default this machine's.
 * --folder DIR is where the libraries go; the environment variable ALICE_NATIVE_LIBRARIES has them loaded from there.
 * --if-needed does nothing where the libraries are those of these sources: for `npm ci`, which runs this at its end.
 * Exit code 0 if all were built; 1 if not, with one line that says why: Alice then runs on onnxruntime as before.
 */
import { spawn, spawnSync } from 'node:child_process';
import { mkdir, rename, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { RECORD_FILE, readBuildRecord, sourcesDigest, writeBuildRecord } from './build-record.ts';
import { builtFolder, type InstructionSet, instructionSets, libraryName } from './instruction-sets.ts';

/** Said whenever there is no library in the end. */
const FALLBACK = 'Alice runs on onnxruntime without it';

/** A compiler that takes longer is stuck. */
const COMPILE_LIMIT_MS = 600_000;

/** Contraction lets a product and a sum be one instruction; NaN and infinity keep their meaning. */
const FLAGS = ['-std=c++17', '-O3', '-fPIC', '-shared', '-pthread', '-fvisibility=hidden', '-fopenmp-simd'];
const ARITHMETIC = ['-ffp-contract=fast', '-fno-math-errno', '-fno-trapping-math'];
const WARNINGS = ['-Wall', '-Wextra', '-Werror=return-type'];
const SANITIZERS = [
  '-fsanitize=address,undefined',
  '-fno-sanitize-recover=undefined',
  '-fno-omit-frame-pointer',
  '-g1',
];

/** The compiler to use, or undefined. */
function findCompiler(): string | undefined {
  const candidates = process.env.CXX === undefined ? ['g++', 'clang++'] : [process.env.CXX];
  return candidates.find(
    (command) => spawnSync(command, ['--version'], { stdio: 'ignore', timeout: 10_000 }).status === 0,
  );
}

/** Compiles one library; the file appears whole or not at all. Returns what the compiler said if it failed. */
async function compile(
  compiler: string,
  { name, flags }: InstructionSet,
  extra: readonly string[],
  folder: string,
): Promise<string | undefined> {
  const headers = join(createRequire(import.meta.url).resolve('node-api-headers'), '..', 'include');
  const output = join(folder, libraryName(name));
  const temporary = `${output}.${process.pid}`;
  const system = process.platform === 'darwin' ? ['-undefined', 'dynamic_lookup'] : [];
  const child = spawn(
    compiler,
    [
      ...[...FLAGS, ...ARITHMETIC, ...WARNINGS, ...system, ...flags, ...extra],
      ...[`-DALICE_ISA="${name}"`, `-I${headers}`, fileURLToPath(new URL('./src/addon.cpp', import.meta.url))],
      ...['-o', temporary],
    ],
    { stdio: ['ignore', 'ignore', 'pipe'], timeout: COMPILE_LIMIT_MS },
  );
  const said: Buffer[] = [];
  child.stderr.on('data', (data: Buffer) => said.push(data));
  const code = await new Promise<number | null>((resolve) => {
    child.on('error', () => resolve(null));
    child.on('close', resolve);
  });
  const text = Buffer.concat(said).toString('utf8').trim();
  if (code !== 0) {
    await rm(temporary, { force: true });
    return text || `${compiler} ended with code ${code}`;
  }
  if (text !== '') console.error(text);
  await rename(temporary, output);
  return undefined;
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      sanitize: { type: 'boolean', default: false },
      'emulate-amx': { type: 'boolean', default: false },
      'if-needed': { type: 'boolean', default: false },
      arch: { type: 'string', default: process.arch },
      folder: { type: 'string', default: builtFolder },
    },
  });
  const { arch, folder } = values;
  const extra = values.sanitize ? SANITIZERS : [];
  const sets = instructionSets(arch).filter(({ emulated }) => values['emulate-amx'] || emulated !== true);
  const options = [...extra, ...sets.map(({ name }) => name)];
  const built = readBuildRecord(folder);
  if (values['if-needed'] && built?.digest === sourcesDigest() && built?.options.join() === options.join()) return 0;
  if (process.platform === 'win32') {
    console.error(`native backend: not built, it knows g++ and clang++ on Linux and macOS only; ${FALLBACK}`);
    return 1;
  }
  const compiler = findCompiler();
  if (compiler === undefined) {
    console.error(`native backend: not built, no C++ compiler (install g++ or clang++, or set CXX); ${FALLBACK}`);
    return 1;
  }
  await mkdir(folder, { recursive: true });
  // Those of an earlier build with other options would be loaded beside the new ones.
  await rm(join(folder, RECORD_FILE), { force: true });
  for (const { name } of instructionSets(arch)) await rm(join(folder, libraryName(name)), { force: true });
  const failures = new Map<string, string>();
  const done: string[] = [];
  const work = async () => {
    for (let set = sets.shift(); set !== undefined; set = sets.shift()) {
      const failure = await compile(compiler, set, extra, folder);
      if (failure === undefined) done.push(set.name);
      else failures.set(set.name, failure);
    }
  };
  await Promise.all(Array.from({ length: Math.min(availableParallelism(), 4) }, work));
  // At the end of an installation nobody wants to read a compiler's pages.
  if (!values['if-needed']) for (const failure of failures.values()) console.error(failure);
  for (const [name, failure] of failures) {
    const reason = /error: .{1,160}/.exec(failure)?.[0] ?? failure.slice(0, 160);
    console.error(`native backend: not built for ${name}, ${compiler} failed (${reason})`);
  }
  if (done.length === 0) {
    console.error(`native backend: not built ("npm run build:native" tries again); ${FALLBACK}`);
    return 1;
  }
  await writeBuildRecord(folder, options);
  console.log(`native backend: built with ${compiler} for ${done.join(', ')}`);
  return failures.size === 0 ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  const { code, message } = error as NodeJS.ErrnoException;
  const isUsage = code?.startsWith('ERR_PARSE_ARGS') === true;
  console.error(
    isUsage
      ? `${message}\nusage: npm run build:native -- [--sanitize] [--emulate-amx] [--if-needed] [--arch NAME] [--folder DIR]`
      : `native backend: not built, ${message}; ${FALLBACK}`,
  );
  process.exitCode = isUsage ? 2 : 1;
}
