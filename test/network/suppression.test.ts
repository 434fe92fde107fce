/** Strangers that bring the messages of others, or many large ones, so that honest peers are not heard. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TOPIC_LIMITS } from '../../node/network/gossip.ts';
import { MAX_MESSAGES_PER_RPC } from '../../node/network/gossip-intake.ts';
import { Ignore, Reject } from '../../node/network/interface.ts';
import type { Network } from '../../node/network/network.ts';
import { HostileGossipPeer } from './hostile/gossip-peer.ts';
import { type Cleanup, NETWORK, until, withPeers } from './local-peers.ts';

const bytes = (value: string) => new TextEncoder().encode(value);
const text = (data: Uint8Array) => new TextDecoder().decode(data);

/** A node whose handler of transactions waits for a sign, an honest peer beside it, and a stranger. */
async function setUp(peers: Cleanup) {
  const node = await peers.started('node');
  const honest = await peers.started('honest', { bootstrap: node.multiaddrs() });
  const handled: string[] = [];
  const { promise: sign, resolve: go } = Promise.withResolvers<void>();
  node.subscribe('transactions', async (data) => {
    await sign;
    // As long as a signature's check may take.
    await new Promise((resolve) => setTimeout(resolve, 20));
    handled.push(text(data));
    if (text(data).startsWith('bad')) throw new Reject('ERR_BAD');
  });
  honest.subscribe('transactions', () => {});
  let greetings = 0;
  let greeted = false;
  node.subscribe('votes', () => {
    greeted = true;
  });
  // The peers may connect twice at first, and what is sent on the connection that goes is lost.
  await until(async () => {
    if (honest.subscribers('transactions').includes(node.peerId))
      await honest.publish('votes', bytes(`${greetings++}`));
    return greeted;
  }, 'the honest peer is heard');
  const stranger = await HostileGossipPeer.start(NETWORK, 'suppressor');
  peers.add(() => stranger.stop());
  await stranger.connect(node.multiaddrs()[0]!);
  const send = async (texts: readonly string[]) => {
    const messages = texts.map((one) => stranger.message('transactions', bytes(one)));
    for (let at = 0; at < messages.length; at += MAX_MESSAGES_PER_RPC)
      await stranger.send({ messages: messages.slice(at, at + MAX_MESSAGES_PER_RPC) });
  };
  return { node, honest, stranger, handled, go, send };
}

const many = (what: string, count: number) => Array.from({ length: count }, (_, index) => `${what} ${index}`);
const stats = (node: Network) => node.status().gossip.transactions;

test(
  'a message that had to make room with its sender’s is taken from the next who brings it',
  withPeers(async (peers) => {
    const { node, honest, handled, go, send } = await setUp(peers);
    const { concurrency, maxQueued } = TOPIC_LIMITS.transactions;
    await send([...many('filler', concurrency + maxQueued), 'the author’s']);
    await until(() => stats(node).dropped === 1, 'the stranger’s copy is dropped');
    await honest.publish('transactions', bytes('the author’s'));
    go();
    await until(() => handled.includes('the author’s'), 'the node takes it from the honest peer');
  }),
);

test(
  'a message of a peer that is found out meanwhile is taken from the next who brings it, and judged anew',
  withPeers(async (peers) => {
    const { node, honest, handled, go, send } = await setUp(peers);
    await send([...many('bad', 2 * TOPIC_LIMITS.transactions.concurrency), 'the author’s', 'bad too']);
    await until(() => node.status().gossipIntake.rpcs > 0, 'it came');
    await new Promise((resolve) => setTimeout(resolve, 200));
    go();
    await until(() => node.verdictCodes().has('transactions ERR_SENDER_GRAYLISTED'), 'it is not heard any more');
    await until(() => stats(node).rejected >= 3, 'rejected');
    await honest.publish('transactions', bytes('the author’s'));
    await until(() => handled.includes('the author’s'), 'the node takes it from the honest peer');
    const before = node.score(honest.peerId);
    await honest.publish('transactions', bytes('bad too'));
    await until(
      () => node.score(honest.peerId) < before - 5,
      'who brings what is wrong pays, whoever brought it before',
    );
  }),
);

test(
  'a message that an honest peer brings while it waits in a stranger’s line is not lost with that',
  withPeers(async (peers) => {
    const { node, honest, handled, go, send } = await setUp(peers);
    const { concurrency } = TOPIC_LIMITS.transactions;
    await send([...many('bad', 2 * concurrency), 'the author’s']);
    await until(() => node.status().gossipIntake.mostMessages > concurrency, 'it came');
    await new Promise((resolve) => setTimeout(resolve, 200));
    await honest.publish('transactions', bytes('the author’s'));
    await new Promise((resolve) => setTimeout(resolve, 200));
    go();
    await until(() => stats(node).rejected >= concurrency, 'the stranger is found out');
    await until(() => handled.includes('the author’s'), 'the node takes it in the turn of the honest peer');
  }),
);

test(
  'large messages of no use cost the neighbours of the node that gets them nothing',
  withPeers(async (peers) => {
    const node = await peers.started('node');
    const neighbour = await peers.started('neighbour', { bootstrap: node.multiaddrs() });
    node.subscribe('transactions', (data) => {
      if (data.length > 100) throw new Ignore('ERR_NO_USE');
    });
    let heard = 0;
    neighbour.subscribe('transactions', () => {
      heard += 1;
    });
    // Passed on within the mesh only.
    const author = await peers.started('author', { bootstrap: node.multiaddrs(), targetPeers: 1 });
    author.subscribe('transactions', () => {});
    let told = 0;
    await until(async () => {
      await author.publish('transactions', bytes(`small ${told++}`)).catch(() => {});
      return heard > 0;
    }, 'the mesh');
    const stranger = await HostileGossipPeer.start(NETWORK, 'amplifier');
    peers.add(() => stranger.stop());
    await stranger.connect(node.multiaddrs()[0]!);
    const before = neighbour.status().gossipIntake.rpcs;
    const ignored = stats(node).ignored;
    for (let index = 0; index < 400; index++) {
      const data = Buffer.alloc(17 * 1024);
      data.writeUInt32BE(index);
      await stranger.send({ messages: [stranger.message('transactions', data)] });
    }
    await until(() => stats(node).ignored - ignored === 400, 'all were looked at', 10_000);
    await new Promise((resolve) => setTimeout(resolve, 500));
    const rpcs = neighbour.status().gossipIntake.rpcs - before;
    assert.ok(rpcs < 60, `the neighbour was sent ${rpcs} RPCs for them`);
  }),
);

test.run();
