/**
 * `npm run mutants -- [--only WORD] [--from N] [--to N] [--seeds N] [--json]`: takes one safeguard after the other out of
 * a copy of the project and runs the tests of consensus, then simulated seeds (default 60), until something fails. Prints
 * a table of what caught what. `--from` and `--to` take a part of the list, by number from 1. Exit code 0 when every
 * mutant is caught, 1 otherwise, 2 on wrong usage.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { BLOCK_BODY_MUTANTS } from './block-bodies.ts';
import { CONSENSUS_MUTANTS } from './consensus.ts';
import { DOOR_MUTANTS } from './door.ts';
import { DURABILITY_MUTANTS } from './durability.ts';
import { EVIDENCE_MUTANTS } from './evidence.ts';
import type { Mutant } from './mutant.ts';
import { SET_CHANGE_MUTANTS } from './set-changes.ts';

const MUTANTS: readonly Mutant[] = [
  ...CONSENSUS_MUTANTS,
  ...BLOCK_BODY_MUTANTS,
  ...DOOR_MUTANTS,
  ...EVIDENCE_MUTANTS,
  ...SET_CHANGE_MUTANTS,
  ...DURABILITY_MUTANTS,
];

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
/** In the order of what they cost. */
const TESTS = [
  ...['state-machine', 'proposer', 'commit-verifier', 'driver', 'vote-keeper', 'framed-log', 'signer-guard'],
  ...['evidence', 'host', 'recovery', 'set-changes', 'block-sync', 'forged-bodies', 'next-height', 'silent-peers'],
]
  .map((name) => `test/consensus/${name}.test.ts`)
  .toSpliced(7, 0, 'test/blockchain/block-evidence.test.ts', 'test/blockchain/blockchain.test.ts');
/** A mutant may make a test run forever: that is caught, too. */
const TIMEOUT_MS = 180_000;

function run(folder: string, args: readonly string[]): boolean {
  const { status } = spawnSync(process.execPath, args, { cwd: folder, stdio: 'ignore', timeout: TIMEOUT_MS });
  return status === 0;
}

/** What caught the mutant; undefined when nothing did. */
function hunt(mutant: Mutant, seeds: number): string | undefined {
  const folder = mkdtempSync(join(tmpdir(), 'alice-mutant-'));
  try {
    for (const part of [
      'node',
      ...['consensus', 'simulation', 'blockchain', 'ledger'].map((area) => `test/${area}`),
      'tools',
      'package.json',
    ])
      cpSync(join(root, part), join(folder, part), { recursive: true });
    symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
    const path = join(folder, mutant.file);
    const source = readFileSync(path, 'utf8');
    if (source.split(mutant.find).length !== 2) return 'NOT APPLIED: the code has changed';
    writeFileSync(
      path,
      source.replace(mutant.find, () => mutant.replace),
    );
    for (const test of TESTS) if (!run(folder, [test])) return test;
    return run(folder, ['tools/sim/sim.ts', '--seeds', String(seeds)]) ? undefined : 'simulation';
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function main(): number {
  let values: { only?: string; from?: string; to?: string; seeds?: string; json?: boolean };
  try {
    ({ values } = parseArgs({
      options: {
        only: { type: 'string' },
        from: { type: 'string' },
        to: { type: 'string' },
        seeds: { type: 'string' },
        json: { type: 'boolean' },
      },
    }));
    for (const name of ['from', 'to', 'seeds'] as const) {
      if (values[name] !== undefined && !/^[1-9]\d*$/.test(values[name]))
        throw new Error(`--${name} takes a positive whole number, not "${values[name]}"`);
    }
  } catch (error) {
    console.error((error as Error).message);
    return 2;
  }
  const { only = '', from = '1', to = String(MUTANTS.length), seeds = '60' } = values;
  const mutants = MUTANTS.slice(Number(from) - 1, Number(to)).filter(({ name }) => name.includes(only));
  const table: { name: string; file: string; caught: string | null }[] = [];
  for (const mutant of mutants) {
    const caught = hunt(mutant, Number(seeds)) ?? null;
    table.push({ name: mutant.name, file: mutant.file, caught });
    console.error(`${(caught ?? 'SURVIVED').padEnd(42)}  ${mutant.name}`);
  }
  const survived = table.filter(({ caught }) => caught === null || caught.startsWith('NOT APPLIED'));
  if (values.json) console.log(JSON.stringify({ mutants: table.length, survived: survived.length, table }));
  else {
    console.table(table);
    console.log(`${table.length} mutants, ${survived.length} survived`);
  }
  return survived.length > 0 ? 1 : 0;
}

process.exitCode = main();
