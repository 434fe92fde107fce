import { TOPICS } from '../../../node/network/interface.ts';
import { topicName } from '../../../node/network/names.ts';
import type { Attack } from '../attack.ts';
import { gossipCrowd, keep } from '../attacker/crowd.ts';

/** Subscriptions cost a peer's table and nothing else: there must be few. */
export const subscriptionFlood: Attack = {
  name: 'subscription-flood',
  what: 'four identities subscribe to thousands of topics that do not exist, and to those that do, on and off',
  answers: 'subscription floods',
  quick: false,
  async run(context) {
    const { networkName, random } = context;
    const peers = await gossipCrowd(context, 4);
    let sent = 0;
    await Promise.all(
      peers.map((peer) =>
        keep(context, async () => {
          const subscribe = random.below(2) === 0;
          const made = Array.from({ length: 1 + random.below(2_000) }, () =>
            Buffer.from(random.bytes(24)).toString('hex'),
          );
          const real = TOPICS.map((topic) => topicName(networkName, topic));
          const topics = random.below(3) === 0 ? real : made;
          await peer.send({ subscriptions: topics.map((topic) => ({ subscribe, topic })) });
          sent += topics.length;
          if (!peer.open) throw new Error('cut');
        }),
      ),
    );
    return [{ what: 'subscriptions were sent', holds: sent > 0, found: `${sent}` }];
  },
};

/** Control messages make the receiver look things up, remember, answer and send. */
export const controlFlood: Attack = {
  name: 'control-flood',
  what: 'four identities send IHAVE of messages that do not exist, IWANT of everything, GRAFT and PRUNE, at full rate',
  answers: 'IHAVE/IWANT floods',
  quick: false,
  async run(context) {
    const { networkName, random } = context;
    const peers = await gossipCrowd(context, 4);
    const names = TOPICS.map((topic) => topicName(networkName, topic));
    const ids = (count: number) => Array.from({ length: count }, () => random.bytes(32));
    const known: Uint8Array[] = [];
    for (const peer of peers) peer.onMessage(({ data }) => data !== undefined && known.push(data.subarray(0, 32)));
    let sent = 0;
    await Promise.all(
      peers.map((peer) =>
        keep(context, async () => {
          const topicID = random.pick(names);
          const kinds = [
            { ihave: [{ topicID, messageIDs: ids(1 + random.below(1_000)) }] },
            { iwant: [{ messageIDs: ids(1 + random.below(1_000)) }] },
            { idontwant: [{ messageIDs: ids(1 + random.below(400)) }] },
            { graft: Array.from({ length: 50 }, () => ({ topicID })) },
            { prune: names.map((name) => ({ topicID: name, peers: [], backoff: 1 + random.below(1e6) })) },
          ];
          await peer.send({ control: random.pick(kinds) });
          sent += 1;
          if (!peer.open) throw new Error('cut');
        }),
      ),
    );
    return [{ what: 'control messages were sent', holds: sent > 0, found: `${sent}` }];
  },
};
