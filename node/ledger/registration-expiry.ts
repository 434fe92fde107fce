/**
 * Module registry, the end: a registration that earned nothing for `expiryMs` is forgotten, so that the state does not grow
 * with everybody who ever came by.
 *
 * Registrations stand in a queue by the time of their next look. Who had work accepted since the last one goes to its end;
 * who is seated or out of turn, too, because the round still knows it; the others are struck off. What is left of an account
 * then is its nonce. It goes when it is as it was after so many blocks that no transaction from before is valid any more:
 * else old ones could be repeated.
 */
import { type CodecType, Struct, u32, u64 } from 'scale-ts';
import type { AccountId } from '../chain/account.ts';
import type { Parameters } from '../chain/parameters.ts';
import { MAX_VALIDITY_BLOCKS } from '../chain/transaction.ts';
import { AccountQueue } from './account-queue.ts';
import { accountRecord } from './accounts.ts';
import type { Draft, StateRecord } from './draft.ts';
import type { LedgerEvent } from './events.ts';
import { returnRegistrationBond } from './registration-bond.ts';
import { minerRecord } from './registry.ts';
import { isSeated } from './seats.ts';
import { stakeRecord } from './stakes.ts';
import { leaveLine, standingRecord } from './standing.ts';
import { vestingRecord } from './vesting.ts';

const watchCodec = Struct({
  /** Place in the queue; an account that registered anew has another one. */
  place: u32,
  dueMs: u64,
  /** Accepted submissions at the last look. */
  accepted: u32,
});

function watchRecord(account: AccountId): StateRecord<Readonly<CodecType<typeof watchCodec>>> {
  return { key: `expiry/${account}`, codec: watchCodec };
}

const departedCodec = Struct({ place: u32, nonce: u32, dueHeight: u32 });

function departedRecord(account: AccountId): StateRecord<Readonly<CodecType<typeof departedCodec>>> {
  return { key: `departed/${account}`, codec: departedCodec };
}

const WATCHED = new AccountQueue('expiry/queue/');
const DEPARTED = new AccountQueue('departed/queue/');

/** Looks at the end of a block, beyond twice what it can register: the queues shrink faster than they grow. */
const SPARE_LOOKS = 8;

/** Looks at a registration again after `expiryMs`. */
export function watchForExpiry(draft: Draft, account: AccountId, timeMs: bigint, expiryMs: number): void {
  const place = WATCHED.append(draft, account);
  const accepted = draft.get(minerRecord(account))?.accepted ?? 0;
  draft.set(watchRecord(account), { place, dueMs: timeMs + BigInt(expiryMs), accepted });
}

/** At the end of a block: ends registrations that are due, and forgets accounts of which nothing is left. */
export function expireRegistrations(
  draft: Draft,
  at: { readonly height: number; readonly timeMs: bigint },
  { registration }: Parameters,
): LedgerEvent[] {
  const events: LedgerEvent[] = [];
  const looks = 2 * registration.maxPerBlock + SPARE_LOOKS;
  for (let look = 0; look < looks && lookAtFirst(draft, at, registration.expiryMs, events); look++);
  for (let look = 0; look < looks && forgetFirst(draft, at.height); look++);
  return events;
}

/** True when the first in the queue was due, or there by mistake. */
function lookAtFirst(
  draft: Draft,
  at: { readonly height: number; readonly timeMs: bigint },
  expiryMs: number,
  events: LedgerEvent[],
): boolean {
  const { first } = WATCHED.bounds(draft);
  const account = WATCHED.at(draft, first);
  if (account === undefined) return false;
  const watch = draft.get(watchRecord(account));
  if (watch?.place !== first) {
    WATCHED.remove(draft, first);
    return true;
  }
  if (watch.dueMs > at.timeMs) return false;
  WATCHED.remove(draft, first);
  const standing = draft.get(standingRecord(account));
  const isKnownToRound = isSeated(draft, account) || (standing !== undefined && standing.place === undefined);
  const accepted = draft.get(minerRecord(account))?.accepted ?? 0;
  if (isKnownToRound || accepted > watch.accepted) {
    watchForExpiry(draft, account, at.timeMs, expiryMs);
    return true;
  }
  if (standing !== undefined) events.push({ type: 'minerExpired', account });
  events.push(...returnRegistrationBond(draft, account));
  leaveLine(draft, account);
  draft.delete(standingRecord(account));
  draft.delete(minerRecord(account));
  draft.delete(watchRecord(account));
  const { nonce } = draft.get(accountRecord(account)) ?? { nonce: 0 };
  const place = DEPARTED.append(draft, account);
  draft.set(departedRecord(account), { place, nonce, dueHeight: at.height + MAX_VALIDITY_BLOCKS + 1 });
  return true;
}

/** True when the first of those who left was due, or there by mistake. */
function forgetFirst(draft: Draft, height: number): boolean {
  const { first } = DEPARTED.bounds(draft);
  const account = DEPARTED.at(draft, first);
  if (account === undefined) return false;
  const departed = draft.get(departedRecord(account));
  if (departed?.place === first) {
    if (departed.dueHeight > height) return false;
    draft.delete(departedRecord(account));
    const record = draft.get(accountRecord(account));
    const others = [watchRecord(account), vestingRecord(account), stakeRecord(account)] as const;
    const isGone = others.every((other) => draft.get<unknown>(other as StateRecord<unknown>) === undefined);
    if (isGone && record?.balance === 0n && record.nonce === departed.nonce) draft.delete(accountRecord(account));
  }
  DEPARTED.remove(draft, first);
  return true;
}
