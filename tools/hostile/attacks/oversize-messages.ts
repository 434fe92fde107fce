import { TOPICS } from '../../../node/network/interface.ts';
import type { Attack } from '../attack.ts';
import { crowd, gossipCrowd, keep } from '../attacker/crowd.ts';
import { varint } from '../attacker/protobuf.ts';
import { push, pushAll } from '../attacker/raw-peer.ts';
import { libp2pProtocols, servedProtocols } from '../attacker/served-protocols.ts';

/** Bytes sent in one piece. */
const PIECE = new Uint8Array(256 * 1024);

/** Messages over every limit, announced as such and not. */
export const oversizeMessages: Attack = {
  name: 'oversize-messages',
  what: 'requests that announce 4 GiB, delimited messages that announce 2 GiB, gossip messages over each topic’s limit',
  answers: 'oversize messages on each protocol and topic',
  quick: false,
  async run(context) {
    const { victim, cid, networkName, arena } = context;
    const [requester, framer] = await crowd(context, 2);
    const [gossip] = await gossipCrowd(context, 1);
    if (requester === undefined || framer === undefined || gossip === undefined) throw new Error('no peers');
    const rejectedBefore = sum((await arena.ask('look', 'victim')).gossip);
    let sent = 0;
    const requests = keep(context, async () => {
      for (const { name } of servedProtocols(cid)) {
        const stream = await requester.openRequest(victim.address, name);
        push(stream, Uint8Array.of(255, 255, 255, 255));
        for (let index = 0; index < 8; index++) await pushAll(stream, PIECE);
        sent += 1;
        stream.abort(new Error('over'));
      }
    });
    const frames = keep(context, async () => {
      for (const id of libp2pProtocols(networkName)) {
        const stream = await framer.open(victim.address, id);
        push(stream, varint(2 ** 31));
        for (let index = 0; index < 8; index++) await pushAll(stream, PIECE);
        sent += 1;
        stream.abort(new Error('over'));
      }
    });
    // Each over its topic's limit, under that of an RPC.
    for (const topic of TOPICS) {
      const bytes = topic === 'proposals' ? 1024 * 1024 + 1 : 64 * 1024 + 1;
      await gossip.publish(topic, context.random.bytes(bytes));
    }
    await Promise.all([requests, frames]);
    const rejected = sum((await arena.ask('look', 'victim')).gossip) - rejectedBefore;
    const { score, connected } = await arena.ask('regard', gossip.peer.peerId);
    return [
      { what: 'oversize messages were sent', holds: sent > 0, found: `${sent}` },
      {
        what: 'gossip over the limit is rejected and held against who sent it',
        holds: rejected > 0 || score < 0 || !connected,
        found: `${rejected} rejected, score ${score.toFixed(1)}`,
      },
    ];
  },
};

/** Rejected messages of all topics. */
function sum(gossip: Readonly<Record<string, Readonly<Record<string, number>>>>): number {
  return Object.values(gossip).reduce((total, topic) => total + (topic.rejected ?? 0), 0);
}
