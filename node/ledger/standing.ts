/**
 * Module seats, standing: what claim a registered account has to a seat, and in which line it stands.
 *
 * *Proven* accounts have accepted work in one of their last `idleRounds` seats; the others are *newcomers*. Each kind has a
 * line, first come first served; an account leaves it when it is seated and comes back behind all others when its seat is
 * over. A seat that came to nothing is a *miss*:
 *
 * | who | which seats | it costs | too many in a row |
 * |---|---|---|---|
 * | newcomer | every one without accepted work | `noShowRounds` openings, doubled with each miss | has to register again |
 * | proven | every one without accepted work | if it did not commit or reveal: the same; else nothing | is a newcomer again |
 *
 * Misses of proven accounts count only where another one did better: what befalls them all (an outage, weights that nobody
 * improves) is nobody's fault, and must not hand all seats to whoever has registered most names. So once there is a proven
 * account, there is always one in line.
 *
 * So a registration buys at most `newcomerTries` seats without accepted work, and one piece of accepted work at most
 * `idleRounds` rounds in which others wait in vain, further and further apart. Time is counted in openings of the training
 * phase, not in rounds: where nobody commits, the phase opens again, and those who missed it are behind the others.
 */
import { type CodecType, Option, Struct, u8, u32 } from 'scale-ts';
import type { AccountId } from '../chain/account.ts';
import { accountCodec } from '../chain/codec.ts';
import type { Parameters } from '../chain/parameters.ts';
import { AccountQueue } from './account-queue.ts';
import { type Draft, flagCodec, listCodec, type StateReader, type StateRecord } from './draft.ts';

const standingCodec = Struct({
  /** It has accepted work in one of its last `idleRounds` seats. */
  proven: flagCodec,
  /** Seats in a row that came to nothing. */
  misses: u8,
  /** Its place in the line of its kind; undefined while it is seated, out of turn, or registered in this block. */
  place: Option(u32),
});
/** What a registered account stands for. */
export type Standing = Readonly<CodecType<typeof standingCodec>>;

/** Where the standing of an account is; none for accounts that are not registered. */
export function standingRecord(account: AccountId): StateRecord<Standing> {
  return { key: `standing/${account}`, codec: standingCodec };
}

/** Line of the accounts with accepted work in recent rounds. */
export const PROVEN = new AccountQueue('seats/proven/');
/** Line of the others. */
export const NEWCOMERS = new AccountQueue('seats/newcomers/');

const lineOf = ({ proven }: Pick<Standing, 'proven'>) => (proven ? PROVEN : NEWCOMERS);

/** Accounts that are out of turn: `until` is the number of the first opening for which they are in line again. */
const OUT_OF_TURN: StateRecord<readonly { readonly account: AccountId; readonly until: number }[]> = {
  key: 'seats/out-of-turn',
  codec: listCodec(Struct({ account: accountCodec, until: u32 })),
};

/** Accounts that registered in the block being executed; empty between blocks. */
const ARRIVALS: StateRecord<readonly AccountId[]> = { key: 'seats/arrivals', codec: listCodec(accountCodec) };

/** A penalty is doubled at most this often. */
const MAX_DOUBLINGS = 8;

/** True from the registration of an account until it has missed too many seats. */
export function isEnlisted(reader: StateReader, account: AccountId): boolean {
  return reader.get(standingRecord(account)) !== undefined;
}

/** Puts a newly registered account behind the newcomers, from the next block on. */
export function enlist(draft: Draft, account: AccountId): void {
  draft.set(standingRecord(account), { proven: false, misses: 0, place: undefined });
  draft.set(ARRIVALS, [...(draft.get(ARRIVALS) ?? []), account]);
}

/** True when somebody has registered that has no seat. */
export function isAnyoneWaiting(reader: StateReader): boolean {
  const lists = [reader.get(ARRIVALS), reader.get(OUT_OF_TURN)];
  return lists.some((list) => (list ?? []).length > 0) || [PROVEN, NEWCOMERS].some((l) => l.bounds(reader).length > 0);
}

/** Most accounts that are seated before this one; undefined when it is not in line. */
export function aheadInLine(reader: StateReader, account: AccountId): number | undefined {
  const standing = reader.get(standingRecord(account));
  if (standing?.place === undefined) return undefined;
  return standing.place - lineOf(standing).bounds(reader).first;
}

/**
 * At the end of a block: those who registered in it go into the line. Not before, so that who proposes the block, and knows
 * its beacon, cannot choose accounts that the beacon favours.
 */
export function admitArrivals(draft: Draft): void {
  const arrivals = draft.get(ARRIVALS) ?? [];
  for (const account of arrivals) backInLine(draft, account);
  if (arrivals.length > 0) draft.delete(ARRIVALS);
}

function backInLine(draft: Draft, account: AccountId): void {
  const standing = draft.get(standingRecord(account));
  if (standing === undefined) return;
  draft.set(standingRecord(account), { ...standing, place: lineOf(standing).append(draft, account) });
}

/** Those whose time out of turn is over at that opening go back into line; all, where nobody would be in line. */
export function callBack(draft: Draft, opening: number): void {
  const out = draft.get(OUT_OF_TURN) ?? [];
  const inLine = PROVEN.bounds(draft).length + NEWCOMERS.bounds(draft).length;
  const isEveryone = inLine === 0 && out.every(({ until }) => until > opening);
  const still = out.filter(({ until }) => !isEveryone && until > opening);
  for (const { account, until } of out) if (isEveryone || until <= opening) backInLine(draft, account);
  if (still.length < out.length) draft.set(OUT_OF_TURN, still);
}

/** Takes an account out of its line: it is seated, or does not want to be any more. */
export function leaveLine(draft: Draft, account: AccountId): void {
  const standing = draft.get(standingRecord(account));
  if (standing?.place === undefined) return;
  lineOf(standing).remove(draft, standing.place);
  draft.set(standingRecord(account), { ...standing, place: undefined });
}

/**
 * What became of a seat. `absent`: not committed, or not revealed; `rejected`: what was revealed was not accepted;
 * `excused`: one of these, by a proven account, where no other proven one did better.
 */
export type SeatOutcome = 'accepted' | 'rejected' | 'absent' | 'excused';

/**
 * Ends a seat of that opening: the account goes back into line, out of turn, or, `false`, is registered no longer.
 */
export function noteSeat(
  draft: Draft,
  account: AccountId,
  outcome: SeatOutcome,
  opening: number,
  { idleRounds, newcomerTries, noShowRounds }: Parameters['rounds'],
): boolean {
  const before = draft.get(standingRecord(account));
  if (before === undefined) return false;
  if (outcome === 'accepted') {
    draft.set(standingRecord(account), { proven: true, misses: 0, place: undefined });
    backInLine(draft, account);
    return true;
  }
  if (outcome === 'excused') {
    backInLine(draft, account);
    return true;
  }
  const misses = before.misses + 1;
  if (!before.proven && misses >= newcomerTries) {
    draft.delete(standingRecord(account));
    return false;
  }
  const demoted = before.proven && misses >= idleRounds;
  draft.set(standingRecord(account), {
    proven: before.proven && !demoted,
    // It has been tried; and it has a try.
    misses: demoted ? Math.min(1, newcomerTries - 1) : misses,
    place: undefined,
  });
  if (before.proven && outcome === 'rejected') {
    backInLine(draft, account);
  } else {
    const until = opening + 1 + noShowRounds * (1 << Math.min(misses - 1, MAX_DOUBLINGS));
    draft.set(OUT_OF_TURN, [...(draft.get(OUT_OF_TURN) ?? []), { account, until }]);
  }
  return true;
}
