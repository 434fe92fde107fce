/**
 * Module offences: what evidence of equivocation in a block does.
 *
 * - Evidence counts while its height is less than `unbondingBlocks` ago, and once: the first evidence throws the account
 *   out for ever (tombstone), session key and genesis weight included, and one that is out is not punished again.
 * - Punishment: `min((3x/n)^2, 1)` of the stake, where x is the power of all who equivocated at heights at most
 *   `offenceWindowBlocks` from this one, and n the total power, rounded up to the unit. Power, not heads, so that
 *   splitting a stake over accounts changes nothing. Each offender's x/n is its own share of the power at its offence;
 *   shares are added in parts per {@link SHARE_SCALE}, each rounded up.
 * - Evidence comes one by one, so every new offender raises the punishment of those found before: each of them pays the
 *   difference, from a base fixed when it was found (bond, and unbonding stake that had counted at the offence).
 */
import { type CodecType, Struct, u32, u64, u128 } from 'scale-ts';
import type { AccountId } from '../chain/account.ts';
import { accountCodec } from '../chain/codec.ts';
import type { EquivocationEvidence } from '../chain/evidence.ts';
import type { Parameters } from '../chain/parameters.ts';
import { type Draft, listCodec, need, type StateReader, type StateRecord } from './draft.ts';
import type { LedgerEvent } from './events.ts';
import { PARAMETERS } from './parameters.ts';
import { isForgotten } from './past-validators.ts';
import { slash, unitsAtStake } from './slashing.ts';
import { readStake, setStake } from './stakes.ts';

/** Shares of the power are counted in parts of this. */
export const SHARE_SCALE = 1_000_000_000_000n;

/** Why a block may not hold evidence. */
export const EVIDENCE_ERRORS = {
  ERR_EVIDENCE_FROM_FUTURE: 'the votes are for a height that is not over',
  ERR_EVIDENCE_TOO_OLD: 'the votes are older than the unbonding time',
  ERR_EVIDENCE_POWER: 'the stated power is zero or more than the total',
  ERR_ALREADY_PUNISHED: 'the validator is out already',
} as const;
export type EvidenceErrorCode = keyof typeof EVIDENCE_ERRORS;

const offenceCodec = Struct({
  account: accountCodec,
  /** Height of the votes, and of the block that committed the evidence. */
  offenceHeight: u32,
  committedHeight: u32,
  /** Share of the power, of {@link SHARE_SCALE}. */
  share: u64,
  /** Units that answered for it when it was found, and those taken so far. */
  base: u128,
  taken: u128,
});
/** An equivocation that was punished, while later evidence may raise the punishment. */
export type Offence = Readonly<CodecType<typeof offenceCodec>>;

/** Offences that later evidence may still join, in the order in which they were committed. */
export const OFFENCES: StateRecord<readonly Offence[]> = {
  key: 'offences',
  codec: listCodec<Offence>(offenceCodec),
};

/**
 * Why the block at `height` may not hold this evidence, apart from its signatures and its powers; undefined when it may.
 * For the pool, the proposer, and the check of a proposed block, each on the state before that block.
 */
export function evidenceError(
  reader: StateReader,
  evidence: EquivocationEvidence,
  height: number,
): EvidenceErrorCode | undefined {
  const offenceHeight = evidence.first.body.height;
  if (offenceHeight >= height) return 'ERR_EVIDENCE_FROM_FUTURE';
  const { unbondingBlocks } = need(reader, PARAMETERS).staking;
  if (height - offenceHeight >= unbondingBlocks || isForgotten(reader, offenceHeight)) return 'ERR_EVIDENCE_TOO_OLD';
  if (evidence.power === 0n || evidence.power > evidence.totalPower) return 'ERR_EVIDENCE_POWER';
  if (readStake(reader, evidence.first.validator).tombstoned) return 'ERR_ALREADY_PUNISHED';
  return undefined;
}

/** `base * min((3 * share / SHARE_SCALE)^2, 1)`, rounded up. */
export function punishment(base: bigint, share: bigint): bigint {
  const tripled = 3n * share;
  if (tripled >= SHARE_SCALE) return base;
  const denominator = SHARE_SCALE * SHARE_SCALE;
  return (base * tripled * tripled + denominator - 1n) / denominator;
}

/** Punishes one offender, and those whose offence it joins. The evidence has no {@link evidenceError}. */
export function commitEvidence(
  draft: Draft,
  evidence: EquivocationEvidence,
  height: number,
  parameters: Parameters,
): LedgerEvent[] {
  const { unbondingBlocks, offenceWindowBlocks } = parameters.staking;
  const account: AccountId = evidence.first.validator;
  const offenceHeight = evidence.first.body.height;
  const stake = readStake(draft, account);
  setStake(draft, account, { ...stake, tombstoned: true, genesisWeight: 0n, jailedUntilMs: undefined });
  const found: Offence = {
    account,
    offenceHeight,
    committedHeight: height,
    share: (evidence.power * SHARE_SCALE + evidence.totalPower - 1n) / evidence.totalPower,
    base: unitsAtStake(stake, offenceHeight),
    taken: 0n,
  };
  const remembered = (draft.get(OFFENCES) ?? []).filter((other) => height - other.offenceHeight < unbondingBlocks);
  const offences = [...remembered, found];
  const near = (a: Offence, b: Offence) => Math.abs(a.offenceHeight - b.offenceHeight) <= offenceWindowBlocks;
  const events: LedgerEvent[] = [{ type: 'equivocated', account, offenceHeight }];
  const punished = offences.map((offence): Offence => {
    if (!near(offence, found)) return offence;
    const share = offences.reduce((sum, other) => (near(offence, other) ? sum + other.share : sum), 0n);
    const due = punishment(offence.base, share) - offence.taken;
    if (due <= 0n) return offence;
    const at = { height, offenceHeight: offence.offenceHeight };
    const outcome = slash(draft, offence.account, due, at, parameters);
    events.push(...outcome.events);
    return { ...offence, taken: offence.taken + outcome.taken };
  });
  draft.set(OFFENCES, punished);
  return events;
}
