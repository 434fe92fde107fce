/**
 * What roles read of the ledger, and how they wait for it to move.
 */
import type { LedgerState } from '../../node/ledger/state.ts';

/** The ledger as it moves; the node's blockchain is one. */
export interface TrainingLedger {
  /** The state after the last finalized block; immutable. */
  readonly state: LedgerState;
  /** Calls back after every finalized block. Returns a function that unsubscribes. */
  onBlock(listener: () => void): () => void;
}

/** Resolves with the first state for which `condition` holds, now or after a later block. Rejects when aborted. */
export function untilState(
  ledger: TrainingLedger,
  condition: (state: LedgerState) => boolean,
  { signal }: { signal: AbortSignal },
): Promise<LedgerState> {
  return new Promise((resolve, reject) => {
    const finish = (settle: () => void) => {
      unsubscribe();
      signal.removeEventListener('abort', onAbort);
      settle();
    };
    const check = () => {
      try {
        const { state } = ledger;
        if (condition(state)) finish(() => resolve(state));
      } catch (error) {
        finish(() => reject(error));
      }
    };
    const onAbort = () => finish(() => reject(signal.reason));
    const unsubscribe = ledger.onBlock(check);
    if (signal.aborted) {
      onAbort();
      return;
    }
    signal.addEventListener('abort', onAbort, { once: true });
    check();
  });
}

/**
 * Does work for as long as `condition` holds after each block: its signal aborts when it no longer does. Resolves with the
 * result, or undefined when the work was cut short. Throws what the work throws, and the signal's reason.
 */
export async function whileState<T>(
  ledger: TrainingLedger,
  condition: (state: LedgerState) => boolean,
  work: (signal: AbortSignal) => Promise<T>,
  { signal }: { signal: AbortSignal },
): Promise<T | undefined> {
  const over = new AbortController();
  const either = AbortSignal.any([signal, over.signal]);
  let changed = false;
  const watching = untilState(ledger, (state) => !condition(state), { signal: either }).then(
    () => {
      changed = true;
      over.abort();
    },
    () => {},
  );
  try {
    return await work(either);
  } catch (error) {
    if (changed && !signal.aborted) return undefined;
    throw error;
  } finally {
    over.abort();
    await watching;
  }
}
