/** Entry of the thread that checks signatures. Started by `verifier-thread.ts`. */
import { setPriority } from 'node:os';
import { parentPort } from 'node:worker_threads';
import { sr25519Ready } from '../identity/sr25519.ts';
import { holds, type SignatureCheck } from './verifier.ts';

/**
 * Niceness of the thread (Linux, where it belongs to a thread): after the event loop, before the model's thread, whose work
 * can wait while agreement cannot.
 */
const NICENESS = 5;

/** A batch to check. */
export interface VerifierRequest {
  readonly id: number;
  readonly checks: readonly SignatureCheck[];
}

/** Its outcome, in the order of the checks. */
export interface VerifierAnswer {
  readonly id: number;
  readonly results: readonly boolean[];
}

if (parentPort === null) throw new Error('verifier-worker.ts runs in a worker thread only');
const port = parentPort;
if (process.platform === 'linux') setPriority(0, NICENESS);
await sr25519Ready();
port.on('message', ({ id, checks }: VerifierRequest) => {
  const answer: VerifierAnswer = { id, results: checks.map(holds) };
  port.postMessage(answer);
});
