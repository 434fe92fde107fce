/**
 * The states after the last blocks. Those since the start of the process are in memory, where they share what did not
 * change; older ones are rebuilt from what the store noted to have been there before each block.
 */
import { LedgerState } from '../ledger/state.ts';
import type { Store } from '../store/store.ts';

/** States in memory: each costs what its block changed. Older ones are rebuilt when they are asked for. */
const MAX_IN_MEMORY = 256;

/** See the head of this file. */
export class StateHistory {
  readonly #store: Pick<Store, 'stateBefore' | 'oldestState'>;
  /** Oldest first, the last state among them. */
  readonly #states = new Map<number, LedgerState>();
  #height: number;

  constructor(store: Pick<Store, 'stateBefore' | 'oldestState'>, height: number, state: LedgerState) {
    this.#store = store;
    this.#height = height;
    this.#states.set(height, state);
  }

  /** Notes the state after the block that was just stored. */
  add(height: number, state: LedgerState): void {
    this.#height = height;
    this.#keep(height, state);
  }

  /** The state after a height, or undefined when it is not kept (any more), or not there yet. */
  at(height: number): LedgerState | undefined {
    if (height > this.#height || height < this.#store.oldestState) return undefined;
    const known = this.#states.get(height);
    if (known !== undefined) return known;
    // From the nearest later state backwards; the last one is always there.
    let from = height + 1;
    while (!this.#states.has(from)) from += 1;
    let { tree } = this.#states.get(from) as LedgerState;
    for (; from > height; from--) tree = tree.with(this.#store.stateBefore(from));
    const state = new LedgerState(tree);
    this.#keep(height, state);
    return state;
  }

  #keep(height: number, state: LedgerState): void {
    this.#states.set(height, state);
    if (this.#states.size <= MAX_IN_MEMORY) return;
    for (const oldest of this.#states.keys()) {
      if (oldest === this.#height) continue;
      this.#states.delete(oldest);
      break;
    }
  }
}
