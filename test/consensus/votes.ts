/** Short names for tests of the consensus core: validators a, b, c, ...; values x, y, ...; votes without signatures. */
import type { AccountId } from '../../node/chain/account.ts';
import { VOTE_TYPES, type Vote, type VoteType } from '../../node/chain/block.ts';
import type { Hash } from '../../node/chain/hash.ts';
import type { ValidatorSet } from '../../node/chain/validator-set.ts';
import type { DriverInput } from '../../node/consensus/core/driver.ts';

/** Height of all these tests. */
export const HEIGHT = 5;

export const account = (name: string): AccountId => name as AccountId;
export const value = (name: string): Hash => name as Hash;

/** Validators a, b, c, ... with these powers. */
export function validators(...powers: bigint[]): ValidatorSet {
  return powers.map((power, index) => {
    const name = String.fromCharCode(97 + index);
    return { account: account(name), sessionKey: value(name), power };
  });
}

export function vote(name: string, type: VoteType, round: number, voted: Hash | undefined, height = HEIGHT): Vote {
  return {
    body: { type: VOTE_TYPES.indexOf(type), height, round, blockId: voted },
    validator: account(name),
    signature: new Uint8Array(64),
  };
}

/** One vote of each named validator, as inputs of the driver. */
export function votes(names: string, type: VoteType, round: number, voted: Hash | undefined): DriverInput[] {
  return [...names].map((name) => ({ type: 'vote', vote: vote(name, type, round, voted) }));
}

export function proposal(
  round: number,
  proposed: Hash,
  validRound = -1,
  verdict: { valid?: boolean; timely?: boolean } = {},
): DriverInput {
  return {
    type: 'proposal',
    proposal: { round, value: proposed, validRound, valid: verdict.valid ?? true, timely: verdict.timely ?? true },
  };
}
