/** Finds the work for a registration, off the event loop, for as long as it takes. */
import { randomBytes } from 'node:crypto';
import { availableParallelism } from 'node:os';
import type { AccountId } from '../chain/account.ts';
import type { Hash } from '../chain/hash.ts';
import type { RegistrationWork } from '../chain/registration-work.ts';
import { provenWork } from './work.ts';

/** How far a search is. Tries have no memory: `secondsLeft` is what is left on average. */
export interface SolverProgress {
  /** Share of the tries that it takes on average; stays below 1. */
  readonly share: number;
  readonly secondsLeft: number;
}

/** What to search. */
export interface SolverTask {
  readonly networkId: Uint8Array;
  readonly account: AccountId;
  readonly challenge: Hash;
  /** Hashes that it has to be worth; asked again and again, as the price may rise meanwhile. */
  readonly wanted: () => bigint;
  readonly signal: AbortSignal;
  readonly onProgress?: (progress: SolverProgress) => void;
}

/** Searches at a time: half of the cores, as the thread pool has other things to do. */
const LANES = Math.max(1, Math.min(2, Math.floor(availableParallelism() / 2)));

/** Tries between two reports, a fraction of a second. */
const REPORT_TRIES = 32;

/** Resolves with work that is worth what is wanted. Throws the signal's reason. */
export async function solveRegistration(task: SolverTask): Promise<RegistrationWork> {
  const { networkId, account, challenge, wanted, signal, onProgress } = task;
  const startedMs = performance.now();
  let tries = 0;
  let found: RegistrationWork | undefined;
  const report = () => {
    const seconds = (performance.now() - startedMs) / 1000;
    const left = Math.max(0, Number(wanted()) - tries);
    onProgress?.({ share: Math.min(0.99, tries / Number(wanted())), secondsLeft: (left * seconds) / tries });
  };
  const search = async () => {
    let solution = randomBytes(8).readBigUInt64LE(0);
    while (found === undefined) {
      signal.throwIfAborted();
      const work = await provenWork(networkId, account, challenge, solution);
      tries += 1;
      if (work >= wanted()) found ??= { challenge, solution, work };
      else if (tries % REPORT_TRIES === 0) report();
      solution = BigInt.asUintN(64, solution + 1n);
    }
  };
  await Promise.all(Array.from({ length: LANES }, search));
  signal.throwIfAborted();
  if (found === undefined) throw new Error('a search ended without a result');
  return found;
}
