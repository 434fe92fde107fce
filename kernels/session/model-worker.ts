/** Entry of the thread that hosts a model session. Started by `worker-thread.ts`. */
import { setPriority } from 'node:os';
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { createSession } from './create-session.ts';
import { errorMessage } from './errors.ts';
import { type JobCall, type JobHandler, jobHandlers } from './job-handlers.ts';
import type { ModelSession } from './model-session.ts';
import type { JobName, ModelJobs, ModelWorkerData, WorkerInput, WorkerOutput } from './protocol.ts';

type Run = Extract<WorkerInput, { kind: 'run' }>;

/** Runs jobs from a port one after the other, in the order of their arrival. */
class JobQueue {
  readonly #port: MessagePort;
  readonly #session: ModelSession;
  /** Jobs that wait, and the one that runs (first). The role's end bounds their number. */
  readonly #jobs = new Map<number, { readonly message: Run; readonly abort: AbortController }>();
  #running: Promise<void> | undefined;

  constructor(port: MessagePort, session: ModelSession) {
    this.#port = port;
    this.#session = session;
  }

  receive(message: WorkerInput): void {
    switch (message.kind) {
      case 'run':
        this.#jobs.set(message.id, { message, abort: new AbortController() });
        this.#running ??= this.#drain();
        return;
      case 'cancel':
        this.#jobs.get(message.id)?.abort.abort();
        return;
      case 'close':
        for (const job of this.#jobs.values()) job.abort.abort();
        void this.#close();
        return;
    }
  }

  async #close(): Promise<void> {
    await this.#running;
    await this.#session.close();
    // The port is all that keeps the thread alive.
    this.#port.close();
  }

  async #drain(): Promise<void> {
    for (const [id, { message, abort }] of this.#jobs) {
      await this.#run(message, abort.signal);
      this.#jobs.delete(id);
    }
    this.#running = undefined;
  }

  async #run(message: Run, signal: AbortSignal): Promise<void> {
    const { id } = message;
    try {
      signal.throwIfAborted();
      // The protocol pairs each job's name with its request; the compiler does not follow that through an index.
      const handler = jobHandlers[message.job] as JobHandler<JobName>;
      const call: JobCall<ModelJobs[JobName]['progress']> = {
        signal,
        progress: (progress) => this.#send({ kind: 'progress', id, progress }),
      };
      const { result, transfer } = await handler(this.#session, message.request, call);
      this.#send({ kind: 'done', id, result }, transfer);
    } catch (error) {
      if (signal.aborted) this.#send({ kind: 'cancelled', id });
      else this.#send({ kind: 'failed', id, error: errorMessage(error) });
    }
  }

  #send(message: WorkerOutput, transfer: readonly ArrayBuffer[] = []): void {
    this.#port.postMessage(message, [...transfer]);
  }
}

async function start(port: MessagePort, data: ModelWorkerData): Promise<void> {
  // On Linux niceness belongs to a thread and onnxruntime's threads inherit it: consensus on the main thread keeps its
  // share of the cores. Elsewhere it would slow the whole process down.
  if (process.platform === 'linux' && data.niceness > 0) setPriority(0, data.niceness);
  const send = (message: WorkerOutput) => port.postMessage(message);
  try {
    const session = await createSession(data.session);
    const queue = new JobQueue(port, session);
    port.on('message', (message: WorkerInput) => queue.receive(message));
    send({ kind: 'ready', memory: session.memory });
  } catch (error) {
    send({ kind: 'unusable', error: errorMessage(error) });
  }
}

if (parentPort === null) throw new Error('model-worker.ts runs in a worker thread only');
await start(parentPort, workerData as ModelWorkerData);
