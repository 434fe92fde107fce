/**
 * `npm run sim -- --seeds N [--seed S] [--threads T] [--log] [--json]`: runs the consensus simulation for N seeds from S
 * on (default 1), on T threads (default: all cores). Exit code 0 when all hold, 1 on a violation or a stall, 2 on wrong
 * usage. A failing seed is replayed with `--seeds 1 --seed S --log`.
 */
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { type SimulationResult, simulate } from '../../test/simulation/simulation.ts';

/** Traces of the many expected errors would take a tenth of the time. */
Error.stackTraceLimit = 0;

interface Share {
  readonly first: number;
  readonly last: number;
  readonly step: number;
}

async function work({ first, last, step }: Share): Promise<void> {
  for (let seed = first; seed <= last; seed += step) parentPort?.postMessage(await simulate(seed));
}

function count(text: string | undefined, fallback: number, name: string): number {
  if (text === undefined) return fallback;
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1) {
    console.error(`--${name} takes a positive whole number, not "${text}"`);
    process.exit(2);
  }
  return value;
}

async function main(): Promise<number> {
  let values: { seeds?: string; seed?: string; threads?: string; log?: boolean; json?: boolean };
  try {
    ({ values } = parseArgs({
      options: {
        seeds: { type: 'string' },
        seed: { type: 'string' },
        threads: { type: 'string' },
        log: { type: 'boolean' },
        json: { type: 'boolean' },
      },
    }));
  } catch (error) {
    console.error(
      `${(error as Error).message}\nusage: npm run sim -- --seeds N [--seed S] [--threads T] [--log] [--json]`,
    );
    return 2;
  }
  const seeds = count(values.seeds, 200, 'seeds');
  const first = count(values.seed, 1, 'seed');
  const threads = Math.min(seeds, values.log ? 1 : count(values.threads, availableParallelism(), 'threads'));
  const faults: Record<string, number> = {};
  let [done, violations, stalls, equivocations] = [0, 0, 0, 0];
  const startedMs = performance.now();
  const take = (result: SimulationResult) => {
    done += 1;
    violations += result.violations.length;
    stalls += result.stalled ? 1 : 0;
    equivocations += result.evidence;
    for (const [kind, number] of Object.entries(result.faults)) faults[kind] = (faults[kind] ?? 0) + number;
    if (result.violations.length > 0 || result.stalled)
      console.error(`seed ${result.seed}: ${result.violations.slice(0, 5).join('; ') || 'no progress after healing'}`);
    if (done % 500 === 0) console.error(`${done} of ${seeds} seeds`);
  };
  if (values.log) {
    for (let seed = first; seed < first + seeds; seed++) {
      take(
        await simulate(seed, {
          onLog: (node, fields, message) => console.error(`${node} ${message} ${JSON.stringify(fields)}`),
        }),
      );
    }
  } else {
    await Promise.all(
      Array.from(
        { length: threads },
        (_, index) =>
          new Promise<void>((resolve, reject) => {
            const share: Share = { first: first + index, last: first + seeds - 1, step: threads };
            const worker = new Worker(new URL(import.meta.url), { workerData: share });
            worker.on('message', take);
            worker.on('error', reject);
            worker.on('exit', () => resolve());
          }),
      ),
    );
  }
  const minutes = (performance.now() - startedMs) / 60_000;
  const summary = {
    seeds: done,
    violations,
    stalls,
    faults,
    evidence: equivocations,
    seeds_per_minute: Math.round(done / minutes),
  };
  console.log(values.json ? JSON.stringify(summary) : summary);
  return violations + stalls > 0 || done < seeds ? 1 : 0;
}

if (isMainThread) process.exitCode = await main();
else await work(workerData as Share);
