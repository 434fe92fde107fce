/**
 * A network that begins where another one stood (a fork, or an upgrade that needs a new genesis): its first state is the
 * other's, entry for entry, except for the record that says which network this is and how many blocks it has had, and for
 * what the new genesis decides anew: validators and parameters.
 */
import { type Genesis, genesisHash, networkId } from '../chain/genesis.ts';
import type { Hash } from '../chain/hash.ts';
import { need } from './draft.ts';
import { CHAIN, PARAMETERS } from './parameters.ts';
import { LedgerState } from './state.ts';
import { VALIDATORS } from './validators.ts';

/** Thrown when entries are not the state with which a genesis begins. */
export class ForkedStateError extends Error {
  static readonly code = 'ERR_FORKED_STATE';
  readonly code = ForkedStateError.code;
  override readonly name = 'ForkedStateError';
}

/**
 * The state before the first block of a network whose genesis names the root of `entries`. Balances, supply, schedule
 * (it counts from the first genesis) and block time go on; heights begin again. Throws {@link ForkedStateError}.
 */
export function forkedState(genesis: Genesis, entries: Iterable<readonly [string, Uint8Array]>): LedgerState {
  const { initialState } = genesis;
  if (initialState === undefined) throw new ForkedStateError('this genesis begins without a state of another network');
  const before = LedgerState.fromEntries(entries);
  if (before.root !== initialState.root)
    throw new ForkedStateError(`the state has root ${before.root}, the genesis begins with ${initialState.root}`);
  const chain = need(before, CHAIN);
  const set = LedgerState.genesis(genesis).nextValidators;
  const validators = { ...need(before, VALIDATORS), next: set, afterNext: set };
  const renamed = { ...chain, genesisHash: genesisHash(genesis) as Hash, networkId: networkId(genesis), height: 0 };
  return new LedgerState(
    before.tree.with([
      [CHAIN.key, CHAIN.codec.enc(renamed)],
      [PARAMETERS.key, PARAMETERS.codec.enc(genesis.parameters)],
      [VALIDATORS.key, VALIDATORS.codec.enc(validators)],
    ]),
  );
}
