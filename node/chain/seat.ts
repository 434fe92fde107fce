/**
 * Seats: who may submit in a round. A seat is a slot of an account; it has a task of its own (shards, windows, nonce), and
 * everything about a submission is keyed by it: commit, reveal, verdicts, result.
 */
import { Struct, u8 } from 'scale-ts';
import { type AccountId, accountPublicKey } from './account.ts';
import { accountCodec } from './codec.ts';

/** A slot of an account. Today every account has one, number 0; a device that does several tasks a round has more. */
export interface Seat {
  readonly account: AccountId;
  /** 0 to 255. */
  readonly slot: number;
}

/** The slot of a miner that does one task a round. */
export const FIRST_SLOT = 0;

/** SCALE form: 32 bytes of the account, one of the slot. */
export const seatCodec = Struct({ account: accountCodec, slot: u8 });

/** A seat as 33 bytes: what hashes and draws are bound to. */
export function seatBytes({ account, slot }: Seat): Uint8Array {
  return Uint8Array.from([...accountPublicKey(account), slot]);
}

/** A seat as text, for maps. */
export function seatKey({ account, slot }: Seat): string {
  return `${account}/${slot}`;
}

/** True for the same slot of the same account. */
export function isSameSeat(a: Seat, b: Seat): boolean {
  return a.account === b.account && a.slot === b.slot;
}

/** Order of seats: by account, then by slot. */
export function compareSeats(a: Seat, b: Seat): number {
  if (a.account === b.account) return a.slot - b.slot;
  return a.account < b.account ? -1 : 1;
}
