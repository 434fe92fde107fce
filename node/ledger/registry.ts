/**
 * Module registry: the accounts that train.
 *
 * A miner is *active*, that is waited for, from its registration until it has not committed for `idleRounds` rounds; a
 * commit or a new registration makes it active again. Active miners are listed in 256 buckets by the first byte of the
 * account, so that one registration rewrites a 256th of the list.
 */
import { type CodecType, Option, Struct, str, u32, u64 } from 'scale-ts';
import type { AccountId } from '../chain/account.ts';
import { AccountIndex } from './account-index.ts';
import type { Draft, StateReader, StateRecord } from './draft.ts';
import { CallRefusedError } from './errors.ts';
import type { LedgerEvent } from './events.ts';

/** Longest device text in bytes of UTF-8. */
export const MAX_DEVICE_BYTES = 64;

const minerCodec = Struct({
  /** Free text of the miner about its device. */
  device: str,
  registeredHeight: u32,
  registeredTimeMs: u64,
  /** Last round in which it registered or committed. */
  lastActiveRound: u32,
  lastCommitRound: Option(u32),
  /** Submissions so far, by outcome. */
  accepted: u32,
  rejected: u32,
});

/** A registered miner. */
export type MinerRecord = Readonly<CodecType<typeof minerCodec>>;

/** Where a miner is. */
export function minerRecord(account: AccountId): StateRecord<MinerRecord> {
  return { key: `miner/${account}`, codec: minerCodec };
}

const ACTIVE = new AccountIndex('miners/active/');

/** Active miners, ascending. */
export function activeMiners(reader: StateReader): AccountId[] {
  return ACTIVE.all(reader);
}

/** True when the account is an active miner. */
export function isActive(reader: StateReader, account: AccountId): boolean {
  return ACTIVE.has(reader, account);
}

/** Call `registerMiner`. Throws {@link CallRefusedError}. */
export function registerMiner(
  draft: Draft,
  signer: AccountId,
  device: string,
  at: { readonly height: number; readonly timeMs: bigint; readonly round: number },
): LedgerEvent[] {
  if (Buffer.byteLength(device, 'utf8') > MAX_DEVICE_BYTES) throw new CallRefusedError('ERR_DEVICE_TEXT_TOO_LONG');
  if (isActive(draft, signer)) throw new CallRefusedError('ERR_ALREADY_REGISTERED');
  const before = draft.get(minerRecord(signer));
  draft.set(minerRecord(signer), {
    device,
    registeredHeight: at.height,
    registeredTimeMs: at.timeMs,
    lastActiveRound: at.round,
    lastCommitRound: before?.lastCommitRound,
    accepted: before?.accepted ?? 0,
    rejected: before?.rejected ?? 0,
  });
  ACTIVE.add(draft, signer);
  return [{ type: 'minerRegistered', account: signer }];
}

/** Notes that a miner committed in a round. */
export function noteCommit(draft: Draft, account: AccountId, miner: MinerRecord, round: number): void {
  draft.set(minerRecord(account), { ...miner, lastActiveRound: round, lastCommitRound: round });
  ACTIVE.add(draft, account);
}

/** Notes what became of a miner's submission. */
export function noteOutcome(draft: Draft, account: AccountId, accepted: boolean): void {
  const miner = draft.get(minerRecord(account));
  if (miner === undefined) return;
  draft.set(minerRecord(account), {
    ...miner,
    accepted: miner.accepted + (accepted ? 1 : 0),
    rejected: miner.rejected + (accepted ? 0 : 1),
  });
}

/**
 * The miners to wait for in a round that opens now, ascending; takes those that were idle for too long off the list.
 * A miner registered in the block that opens the round is not among them: its proposer knew the beacon when it could
 * still choose the account.
 */
export function takeExpected(draft: Draft, round: number, height: number, idleRounds: number): AccountId[] {
  const expected: AccountId[] = [];
  for (const account of activeMiners(draft)) {
    const miner = draft.get(minerRecord(account));
    if (miner === undefined || miner.lastActiveRound + idleRounds < round) ACTIVE.remove(draft, account);
    else if (miner.registeredHeight < height) expected.push(account);
  }
  return expected;
}
