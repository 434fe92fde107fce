/** All attacks, in the order in which they are run. */
import type { Attack } from './attack.ts';
import { foreignCidNames, lyingProviders } from './attacks/blobs.ts';
import { connectionFlood, otherNetworks, replayedHandshakes } from './attacks/connections.ts';
import { earlyVotes, forgedBodies, lyingSyncPeers } from './attacks/consensus.ts';
import { deafGossip } from './attacks/deaf-gossip.ts';
import { dhtQueries, providerSpam } from './attacks/dht.ts';
import { forgedTransactions } from './attacks/forged-transactions.ts';
import { falseWork, freeCalls, freeRegistrations } from './attacks/free-calls.ts';
import { garbage } from './attacks/garbage.ts';
import { controlFlood, subscriptionFlood } from './attacks/gossip-control.ts';
import { halfMessages } from './attacks/half-messages.ts';
import { invalidGossip } from './attacks/invalid-gossip.ts';
import { nothing } from './attacks/nothing.ts';
import { oversizeMessages } from './attacks/oversize-messages.ts';
import { blockRequests, requestFlood } from './attacks/request-flood.ts';
import { silentStreams } from './attacks/silent-streams.ts';
import { slowWriters } from './attacks/slow-writers.ts';
import { bareStreams, streamChurn } from './attacks/stream-churn.ts';
import { unreadAnswers } from './attacks/unread-answers.ts';

export const ATTACKS: readonly Attack[] = [
  foreignCidNames,
  lyingProviders,
  freeCalls,
  freeRegistrations,
  falseWork,
  forgedTransactions,
  invalidGossip,
  subscriptionFlood,
  controlFlood,
  garbage,
  oversizeMessages,
  silentStreams,
  unreadAnswers,
  slowWriters,
  halfMessages,
  deafGossip,
  blockRequests,
  requestFlood,
  streamChurn,
  bareStreams,
  providerSpam,
  dhtQueries,
  otherNetworks,
  replayedHandshakes,
  connectionFlood,
  earlyVotes,
  lyingSyncPeers,
  forgedBodies,
];

/** The control, which is no attack. */
export const CONTROL = nothing;

/** Thrown for a name that no attack has. */
export class UnknownAttackError extends Error {
  static readonly code = 'ERR_UNKNOWN_ATTACK';
  readonly code = UnknownAttackError.code;
  override readonly name = 'UnknownAttackError';
}

/** The attack of a name. Throws {@link UnknownAttackError}. */
export function attackNamed(name: string): Attack {
  const attack = [CONTROL, ...ATTACKS].find((candidate) => candidate.name === name);
  if (attack === undefined) throw new UnknownAttackError(`no attack is called "${name}"`);
  return attack;
}
