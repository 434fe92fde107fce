/**
 * A network that begins where another one stood (a fork, or an upgrade that needs a new genesis): its first state is the
 * other's, entry for entry, except for the record that says which network this is and how many blocks it has had, for what
 * counts in the other's heights, and for what the new genesis decides anew: founding validators and parameters.
 */
import { type Genesis, genesisHash, networkId } from '../chain/genesis.ts';
import type { Hash } from '../chain/hash.ts';
import { Draft, need } from './draft.ts';
import { OFFENCES } from './offences.ts';
import { PARAMETER_VOTES, SCHEDULED_CHANGES } from './parameter-votes.ts';
import { CHAIN, GENESIS_PARAMETERS, PARAMETERS } from './parameters.ts';
import { forgetPastValidators } from './past-validators.ts';
import { readStake, sessionOwner, setStake, stakers, type Unbonding } from './stakes.ts';
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
  const draft = new Draft(before);
  draft.set(CHAIN, { ...chain, genesisHash: genesisHash(genesis) as Hash, networkId: networkId(genesis), height: 0 });
  draft.set(PARAMETERS, genesis.parameters);
  draft.set(GENESIS_PARAMETERS, genesis.parameters);
  for (const account of stakers(before)) {
    const stake = readStake(before, account);
    setStake(draft, account, { ...stake, genesisWeight: 0n, unbonding: stake.unbonding.map(fromHeight(chain.height)) });
  }
  const validators = LedgerState.genesis(genesis).nextValidators;
  for (const { account, sessionKey, power } of validators) {
    // Whom the new network founds on starts anew there, whatever it was in the other one.
    const standing = { sessionKey, genesisWeight: power, jailedUntilMs: undefined, tombstoned: false };
    setStake(draft, account, { ...readStake(draft, account), ...standing });
    draft.set(sessionOwner(sessionKey), account);
  }
  draft.set(VALIDATORS, { next: validators, afterNext: validators });
  forgetPastValidators(draft);
  // Offences and agreed changes belong to heights that the new network has not.
  draft.delete(OFFENCES);
  draft.delete(PARAMETER_VOTES);
  draft.delete(SCHEDULED_CHANGES);
  return new LedgerState(before.tree.with(draft.changes()));
}

/** Counts the heights of unbonding stake from where the other network stood. */
function fromHeight(height: number): (unbonding: Unbonding) => Unbonding {
  return (unbonding) => ({ ...unbonding, sinceHeight: 0, freeHeight: Math.max(0, unbonding.freeHeight - height) });
}
