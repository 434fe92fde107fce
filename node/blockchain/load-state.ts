/**
 * The state that a node begins with: what its store holds, believed only when its root is the expected one.
 */
import type { Header } from '../chain/block.ts';
import { type Genesis, genesisHash } from '../chain/genesis.ts';
import { validatorSetHash } from '../chain/validator-set.ts';
import { LedgerState } from '../ledger/state.ts';
import { StoreDamagedError } from '../store/errors.ts';
import type { Store } from '../store/store.ts';

/** Thrown when a network begins with the state of another one, and that was not imported. */
export class StateNotImportedError extends Error {
  static readonly code = 'ERR_STATE_NOT_IMPORTED';
  readonly code = StateNotImportedError.code;
  override readonly name = 'StateNotImportedError';
}

/** The imported state of a network that begins with another one's; its root was checked when it was imported. */
function importedState(genesis: Genesis, store: Store): LedgerState {
  if (store.isEmpty)
    throw new StateNotImportedError(
      'this network begins with the state of another one: bring it here first with "alice state import FILE --network FILE --dir DIR"',
    );
  const state = LedgerState.fromEntries(store.state());
  if (state.chain.genesisHash !== genesisHash(genesis))
    throw new StoreDamagedError('the imported state is of another network: move the database away and import again');
  return state;
}

/**
 * State after the last stored block, checked against its header; the genesis state in a new store, which is written.
 * Throws {@link StoreDamagedError}.
 */
export function loadState(genesis: Genesis, store: Store): { state: LedgerState; last: Header | undefined } {
  const height = store.height;
  if (height === 0) {
    if (genesis.initialState !== undefined) return { state: importedState(genesis, store), last: undefined };
    const state = LedgerState.genesis(genesis);
    const sets = new Map([[validatorSetHash(state.nextValidators), state.nextValidators]]);
    store.writeGenesis(state.tree.entries(), sets);
    if (LedgerState.fromEntries(store.state()).root !== state.root) {
      throw new StoreDamagedError('the stored state is not the genesis state: move the database away and start again');
    }
    return { state, last: undefined };
  }
  const last = store.block(height)?.block.header;
  const state = LedgerState.fromEntries(store.state());
  if (last === undefined || state.root !== last.stateRoot) {
    throw new StoreDamagedError(
      `the stored state does not have the root of block ${height}: move the database away, the node gets the blocks from its peers again`,
    );
  }
  return { state, last };
}
