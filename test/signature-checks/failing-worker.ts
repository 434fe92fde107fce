/** A verifier's thread that ends in the middle of a batch until it has done so as often as told. */
import { readFileSync, writeFileSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { sr25519Ready } from '../../node/identity/sr25519.ts';
import { holds } from '../../node/signature-checks/verifier.ts';
import type { VerifierRequest } from '../../node/signature-checks/verifier-worker.ts';

const { counter, crashes, by } = workerData as { counter: string; crashes: number; by: 'exit' | 'throw' };
await sr25519Ready();
parentPort?.on('message', ({ id, checks }: VerifierRequest) => {
  const before = Number(readFileSync(counter, 'utf8'));
  if (before < crashes) {
    writeFileSync(counter, String(before + 1));
    if (by === 'exit') process.exit(7);
    throw new Error('a fault of the thread');
  }
  parentPort?.postMessage({ id, results: checks.map(holds) });
});
