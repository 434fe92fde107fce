/**
 * Verifies in a thread of its own, started at the first check: one, because a node has its event loop and a model's thread
 * to feed already, and one checks some thousand signatures a second.
 *
 * A thread that ends unasked is replaced and its batch done again; one that keeps ending is given up, and this thread does
 * the work, a few checks a turn. So no check is lost, and none holds that nobody made.
 */
import { Worker } from 'node:worker_threads';
import {
  CHECKS_PER_TURN,
  InlineVerifier,
  type SignatureCheck,
  type SignatureVerifier,
  URGENCIES,
  type Urgency,
  VerifierBusyError,
  VerifierClosedError,
} from './verifier.ts';
import type { VerifierAnswer, VerifierRequest } from './verifier-worker.ts';

/** Checks that may wait by urgency; more are refused. A block has at most some hundred, and few are at work at a time. */
const MAX_WAITING: Readonly<Record<Urgency, number>> = { block: 8192, own: 1024, gossip: 1024 };

/** Threads that may end unasked before this thread takes over for good. */
const MAX_FAILURES = 3;

/** Batches after which earlier failures are forgotten: what keeps failing fails sooner. */
const RECOVERED_AFTER = 10_000;

/** Old generation of the thread's heap, in MiB: it holds one batch, at most 8 x 2 messages of 48 KiB. */
const MAX_HEAP_MIB = 64;

/** Where failures go. */
export interface VerifierLog {
  warn(fields: object, message: string): void;
}

/** Part of a call, as large as one message to the thread. */
interface Batch {
  readonly checks: readonly SignatureCheck[];
  readonly resolve: (results: readonly boolean[]) => void;
  readonly reject: (reason: unknown) => void;
}

/** See the file comment. */
export class ThreadedVerifier implements SignatureVerifier {
  readonly #log: VerifierLog;
  readonly #startThread: () => Worker;
  readonly #inline = new InlineVerifier();
  readonly #waiting: Record<Urgency, Batch[]> = { block: [], own: [], gossip: [] };
  readonly #waitingChecks: Record<Urgency, number> = { block: 0, own: 0, gossip: 0 };
  #thread: Worker | undefined;
  #running: { readonly id: number; readonly batch: Batch } | undefined;
  #lastId = 0;
  #failures = 0;
  #sinceFailure = 0;
  #closed = false;

  /** `startThread` is for tests: a thread of `verifier-worker.ts`'s protocol. */
  constructor(log: VerifierLog, startThread: () => Worker = startVerifierThread) {
    this.#log = log;
    this.#startThread = startThread;
  }

  async verify(checks: readonly SignatureCheck[], urgency: Urgency): Promise<readonly boolean[]> {
    if (this.#closed) throw new VerifierClosedError('the verifier is closed');
    const waiting = this.#waitingChecks[urgency];
    // A call alone is always taken: what asks for more than this at once has a bound of its own.
    if (waiting > 0 && waiting + checks.length > MAX_WAITING[urgency])
      throw new VerifierBusyError(`${waiting} ${urgency} signatures wait to be checked`);
    const results: Promise<readonly boolean[]>[] = [];
    for (let start = 0; start < checks.length; start += CHECKS_PER_TURN) {
      const batch = checks.slice(start, start + CHECKS_PER_TURN);
      results.push(
        new Promise((resolve, reject) => {
          this.#waiting[urgency].push({ checks: batch, resolve, reject });
          this.#waitingChecks[urgency] += batch.length;
        }),
      );
    }
    this.#next();
    return (await Promise.all(results)).flat();
  }

  /** Rejects what waits and ends the thread. */
  async close(): Promise<void> {
    this.#closed = true;
    const error = new VerifierClosedError('the verifier was closed');
    this.#running?.batch.reject(error);
    this.#running = undefined;
    for (const urgency of URGENCIES) for (const batch of this.#waiting[urgency].splice(0)) batch.reject(error);
    await this.#thread?.terminate();
  }

  #next(): void {
    if (this.#running !== undefined || this.#closed) return;
    const urgency = URGENCIES.find((candidate) => this.#waiting[candidate].length > 0);
    const batch = urgency === undefined ? undefined : this.#waiting[urgency].shift();
    if (urgency === undefined || batch === undefined) {
      // An idle thread does not keep the process alive.
      this.#thread?.unref();
      return;
    }
    this.#waitingChecks[urgency] -= batch.checks.length;
    this.#lastId += 1;
    this.#running = { id: this.#lastId, batch };
    this.#work(this.#running);
  }

  #work(job: { readonly id: number; readonly batch: Batch }): void {
    if (this.#failures >= MAX_FAILURES) {
      void this.#inline.verify(job.batch.checks).then((results) => this.#done({ id: job.id, results }));
      return;
    }
    try {
      this.#thread ??= this.#start();
      this.#thread.ref();
      const request: VerifierRequest = { id: job.id, checks: job.batch.checks.map(compact) };
      this.#thread.postMessage(request);
    } catch (error) {
      this.#fail(this.#thread, error);
    }
  }

  #start(): Worker {
    const thread = this.#startThread();
    thread.on('message', (answer: VerifierAnswer) => this.#done(answer));
    thread.on('error', (error) => this.#fail(thread, error));
    thread.on('exit', (code) => this.#fail(thread, new Error(`the thread ended with code ${code}`)));
    return thread;
  }

  #done({ id, results }: VerifierAnswer): void {
    const job = this.#running;
    // A thread that was given up may still have spoken.
    if (job === undefined || job.id !== id) return;
    this.#running = undefined;
    this.#sinceFailure += 1;
    if (this.#failures < MAX_FAILURES && this.#sinceFailure >= RECOVERED_AFTER) this.#failures = 0;
    job.batch.resolve(results);
    this.#next();
  }

  #fail(thread: Worker | undefined, error: unknown): void {
    // A thread that fails says so twice, and one that is closed has not failed.
    if (thread !== this.#thread || this.#closed) return;
    this.#thread = undefined;
    this.#failures += 1;
    this.#sinceFailure = 0;
    const givenUp = this.#failures >= MAX_FAILURES;
    this.#log.warn({ err: error, givenUp }, 'the thread that checks signatures failed');
    if (this.#running !== undefined) this.#work(this.#running);
  }
}

/** The same check in arrays of its own: sending a view copies all of what it looks into, a whole gossip frame maybe. */
function compact({ kind, publicKey, messages, signature }: SignatureCheck): SignatureCheck {
  const copy = (bytes: Uint8Array) => new Uint8Array(bytes);
  return { kind, publicKey: copy(publicKey), messages: messages.map(copy), signature: copy(signature) };
}

function startVerifierThread(): Worker {
  return new Worker(new URL('./verifier-worker.ts', import.meta.url), {
    resourceLimits: { maxOldGenerationSizeMb: MAX_HEAP_MIB },
  });
}
