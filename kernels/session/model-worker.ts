/**
 * Entry of the model worker thread: hosts one {@link ModelSession} and answers calls, one after the other.
 */
import { setPriority } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { ModelSession, type ModelSessionInit } from './model-session.ts';
import type { FromWorker, SessionCall, ToWorker } from './protocol.ts';

/**
 * On Linux priorities belong to threads, and onnxruntime's threads inherit this one's: training yields to the event
 * loop, so that votes and pings are answered while all cores compute. Elsewhere it would slow the whole process.
 */
const WORKER_NICENESS = 10;
if (process.platform === 'linux') setPriority(0, WORKER_NICENESS);

const port = parentPort;
if (port === null) throw new Error('model-worker.ts is started as a worker thread only');

const session = new ModelSession(workerData as ModelSessionInit);
const aborts = new Map<number, AbortController>();
let turn: Promise<void> = Promise.resolve();

/** Small deterministic generator (mulberry32) for the noise of a pretending miner; nothing depends on its quality. */
function noise(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const send = (message: FromWorker, transfer: ArrayBuffer[] = []) => port.postMessage(message, transfer);

function run(message: Extract<ToWorker, { type: 'call' }>, signal: AbortSignal): unknown {
  switch (message.call) {
    case 'initialize':
      return session.initialize(...message.args);
    case 'load':
      return session.load(...message.args);
    case 'weights':
      return session.weights();
    case 'open':
      return session.open(...message.args);
    case 'save':
      return session.save(...message.args);
    case 'aggregate':
      return session.aggregate(...message.args);
    case 'train':
      return session.train(message.args[0], {
        signal,
        onStep: (progress) => send({ type: 'step', id: message.id, progress }),
      });
    case 'pretend':
      return session.pretend(noise(message.args[0]));
    case 'compress':
      return session.compress(...message.args);
    case 'openErrorFeedback':
      return session.openErrorFeedback(...message.args);
    case 'score':
      return session.score(...message.args, { signal });
  }
}

/** Results that are one large array are handed over instead of copied. */
const HANDED_OVER: ReadonlySet<SessionCall> = new Set(['weights', 'compress']);

async function answer(message: Extract<ToWorker, { type: 'call' }>, signal: AbortSignal): Promise<void> {
  try {
    signal.throwIfAborted();
    const value = await run(message, signal);
    const whole = HANDED_OVER.has(message.call) && value instanceof Uint8Array && value.buffer instanceof ArrayBuffer;
    send({ type: 'result', id: message.id, value }, whole ? [value.buffer as ArrayBuffer] : []);
  } catch (cause) {
    const error = cause instanceof Error ? cause : new Error(String(cause));
    const code = 'code' in error && typeof error.code === 'string' ? error.code : undefined;
    const { name, message: text, stack } = error;
    send({ type: 'error', id: message.id, error: { name, message: text, code, stack } });
  } finally {
    aborts.delete(message.id);
  }
}

port.on('message', (message: ToWorker) => {
  if (message.type === 'call') {
    const controller = new AbortController();
    aborts.set(message.id, controller);
    turn = turn.then(() => answer(message, controller.signal));
  } else if (message.type === 'abort') {
    aborts.get(message.id)?.abort();
  } else {
    for (const controller of aborts.values()) controller.abort();
    turn.then(() => session.close()).then(() => port.close());
  }
});
