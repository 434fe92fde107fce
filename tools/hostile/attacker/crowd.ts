/** Several identities of one attacker. */
import type { AttackContext } from '../attack.ts';
import { GossipPeer } from './gossip-peer.ts';
import { RawPeer } from './raw-peer.ts';

/** Fresh identities, each from an address of its own, as a hirer of cheap machines has them; stopped at the end. */
export function identities(
  context: AttackContext,
  count: number,
): { readonly networkName: string; readonly name: string; readonly from: string }[] {
  const { networkName, attack, seed, random } = context;
  const host = 2 + random.below(200);
  return Array.from({ length: count }, (_, index) => ({
    networkName,
    name: `${attack}/${seed}/${index}/${process.pid}`,
    // The whole of 127.0.0.0/8 is the loopback on Linux; elsewhere all come from one address.
    ...(process.platform === 'linux' ? { from: `127.0.${host}.${1 + (index % 250)}` } : { from: '127.0.0.1' }),
  }));
}

/** Bare peers, connected to the victim. */
export async function crowd(context: AttackContext, count: number): Promise<RawPeer[]> {
  return Promise.all(
    identities(context, count).map(async (identity) => {
      const peer = await RawPeer.start(identity);
      context.afterwards(() => peer.stop());
      await peer.connect(context.victim.address).catch(() => {});
      return peer;
    }),
  );
}

/** Peers in the victim's gossip. */
export async function gossipCrowd(context: AttackContext, count: number): Promise<GossipPeer[]> {
  return Promise.all(
    identities(context, count).map(async (identity) => {
      const peer = await GossipPeer.join(context.victim.address, identity);
      context.afterwards(() => peer.stop());
      return peer;
    }),
  );
}

/** Lets the event loop of the attacker turn, and waits. */
export function rest(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Repeats something while the attack presses; an error is the other side's answer, and it is tried again a bit later. */
export async function keep(context: AttackContext, act: () => Promise<unknown>): Promise<number> {
  let done = 0;
  while (context.pressing()) {
    try {
      await act();
      done += 1;
    } catch {
      await rest(20);
    }
  }
  return done;
}
