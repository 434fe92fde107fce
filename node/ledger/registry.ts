/**
 * Module registry: the accounts that train, and what they did. What claim to a seat an account has is in `standing.ts`.
 */
import { type CodecType, Option, Struct, str, u32, u64 } from 'scale-ts';
import type { AccountId } from '../chain/account.ts';
import type { Draft, StateRecord } from './draft.ts';
import { CallRefusedError } from './errors.ts';
import type { LedgerEvent } from './events.ts';
import { enlist, isEnlisted } from './standing.ts';

/** Longest device text in bytes of UTF-8. */
export const MAX_DEVICE_BYTES = 64;

const minerCodec = Struct({
  /** Free text of the miner about its device. */
  device: str,
  registeredHeight: u32,
  registeredTimeMs: u64,
  /** Last round in which a submission of it was accepted. */
  lastAcceptedRound: Option(u32),
  /** Submissions so far, by outcome. */
  accepted: u32,
  rejected: u32,
});

/** A registered miner, or one that was registered and has accepted work. */
export type MinerRecord = Readonly<CodecType<typeof minerCodec>>;

/** Where a miner is. */
export function minerRecord(account: AccountId): StateRecord<MinerRecord> {
  return { key: `miner/${account}`, codec: minerCodec };
}

/** Call `registerMiner`. Throws {@link CallRefusedError}. */
export function registerMiner(
  draft: Draft,
  signer: AccountId,
  device: string,
  at: { readonly height: number; readonly timeMs: bigint },
): LedgerEvent[] {
  if (Buffer.byteLength(device, 'utf8') > MAX_DEVICE_BYTES) throw new CallRefusedError('ERR_DEVICE_TEXT_TOO_LONG');
  if (isEnlisted(draft, signer)) throw new CallRefusedError('ERR_ALREADY_REGISTERED');
  const before = draft.get(minerRecord(signer));
  draft.set(minerRecord(signer), {
    device,
    registeredHeight: at.height,
    registeredTimeMs: at.timeMs,
    lastAcceptedRound: before?.lastAcceptedRound,
    accepted: before?.accepted ?? 0,
    rejected: before?.rejected ?? 0,
  });
  enlist(draft, signer);
  return [{ type: 'minerRegistered', account: signer }];
}

/** Counts what became of a miner's submission. */
export function countSubmission(draft: Draft, account: AccountId, accepted: boolean, round: number): void {
  const miner = draft.get(minerRecord(account));
  if (miner === undefined) return;
  draft.set(minerRecord(account), {
    ...miner,
    lastAcceptedRound: accepted ? round : miner.lastAcceptedRound,
    accepted: miner.accepted + (accepted ? 1 : 0),
    rejected: miner.rejected + (accepted ? 0 : 1),
  });
}

/** Forgets a miner that has to register again, unless work of it was ever accepted. */
export function strikeOff(draft: Draft, account: AccountId): LedgerEvent[] {
  if (draft.get(minerRecord(account))?.accepted === 0) draft.delete(minerRecord(account));
  return [{ type: 'minerStruckOff', account }];
}
