import { TOPICS } from '../../../node/network/interface.ts';
import type { Attack } from '../attack.ts';
import { identities, rest } from '../attacker/crowd.ts';
import { GossipPeer } from '../attacker/gossip-peer.ts';

/** Messages a second. */
const RATE = 1_000;

/** Messages that gossip itself finds in order and whose content is nothing. */
export const invalidGossip: Attack = {
  name: 'invalid-gossip',
  what: `${RATE} messages a second, properly signed for gossip, with content that is none, from ever new identities`,
  answers: 'invalid gossip at 1,000/s',
  quick: true,
  async run(context) {
    const { arena, victim, random } = context;
    const names = identities(context, 40);
    let peer: GossipPeer | undefined;
    let first: GossipPeer | undefined;
    let [sent, ofThis] = [0, 0];
    const fromMs = performance.now();
    while (context.pressing()) {
      // What was found out goes on under another name.
      if (peer === undefined || !peer.open || ofThis >= 2 * RATE) {
        const identity = names.shift();
        if (identity === undefined) break;
        try {
          peer = await GossipPeer.join(victim.address, identity);
        } catch {
          await rest(100);
          continue;
        }
        first ??= peer;
        ofThis = 0;
        const stopped = peer;
        context.afterwards(() => stopped.stop());
      }
      const messages = [];
      for (let index = 0; index < 50; index++) {
        messages.push(await peer.message(random.pick(TOPICS), random.bytes(16 + random.below(400))));
      }
      if (await peer.send({ messages })) {
        sent += messages.length;
        ofThis += messages.length;
      }
      const aheadMs = (1000 * sent) / RATE - (performance.now() - fromMs);
      if (aheadMs > 0) await rest(aheadMs);
    }
    await rest(500);
    const { score, connected } =
      first === undefined ? { score: 0, connected: true } : await arena.ask('regard', first.peer.peerId);
    return [
      { what: 'messages were sent', holds: sent > 0, found: `${sent}` },
      {
        what: 'who sends nonsense loses its standing',
        holds: score < 0 || !connected,
        found: `score ${score.toFixed(1)}, ${connected ? 'connected' : 'dropped'}`,
      },
    ];
  },
};
