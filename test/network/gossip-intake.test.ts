import type { RPC } from '@libp2p/gossipsub/message';
import type { PeerId } from '@libp2p/interface';
import { Uint8ArrayList } from 'uint8arraylist';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { GossipIntake, MAX_MESSAGES_PER_RPC } from '../../node/network/gossip-intake.ts';
import { BoundedTimeCache } from '../../node/network/gossip-memory.ts';
import type { GossipsubInternals } from '../../node/network/gossipsub-internals.ts';

const TOPIC = 'topic';
const control = { ihave: [], iwant: [], graft: [], prune: [], idontwant: [] };
const id = (number: number) => new Uint8Array(32).fill(number % 251).fill(number >> 8, 0, 2);
const messages = (count: number): RPC['messages'] => Array.from({ length: count }, () => ({ topic: TOPIC }));

/** An intake in front of a gossipsub that only notes what reaches it; frames name RPCs by their index. */
function setUp({ known = false, topicBytes = 100 } = {}) {
  const taken: RPC[] = [];
  const scores = new Map<string, number>();
  const graylisted: string[] = [];
  const stats = { connected: true, behaviourPenalty: 0, knownIPs: new Set<string>() };
  const rpcs: (RPC | 'garbage')[] = [];
  const pubsub: GossipsubInternals = {
    seenCache: new BoundedTimeCache(1000, 60_000),
    fastMsgIdCache: undefined,
    score: {
      peerStats: new Map([['peer', stats]]),
      scoreCache: new Map(),
      deliveryRecords: { records: new Map(), queue: { shift: () => undefined }, ensureRecord: () => {} },
      addPeer: () => {},
      removeIPsForPeer: () => {},
      score: (peer) => scores.get(peer) ?? 0,
    },
    // As gossipsub does it with `awaitRpcHandler`.
    pipePeerReadStream: async (peer, source) => {
      for await (const frame of source) {
        const rpc = rpcs[frame.get(0)];
        if (rpc !== undefined && rpc !== 'garbage') await pubsub.handleReceivedRpc(peer, rpc);
      }
    },
    handleReceivedRpc: async (_, rpc) => {
      taken.push(rpc);
    },
    sendIDontWants: () => {},
  };
  const intake = new GossipIntake({
    pubsub,
    topicBytes: new Map([[TOPIC, topicBytes]]),
    graylistThreshold: -80,
    isKnown: () => known,
    onGraylisted: (peer) => graylisted.push(peer),
  });
  const peer = { toString: () => 'peer' } as PeerId;
  const receive = (given: readonly (RPC | 'garbage')[], bytes = 10) => {
    rpcs.splice(0, rpcs.length, ...given);
    async function* source() {
      for (const [index] of given.entries()) yield new Uint8ArrayList(new Uint8Array(bytes).fill(index));
    }
    // The intake's pauses keep no process alive; a connection would.
    const connection = setInterval(() => {}, 60_000);
    return pubsub.pipePeerReadStream(peer, source()).finally(() => clearInterval(connection));
  };
  return { intake, pubsub, taken, scores, stats, graylisted, receive };
}

test('an RPC is taken in parts, whole and in order', async () => {
  const { taken, receive } = setUp();
  const all = messages(100).map((message, index) => ({ ...message, data: Uint8Array.of(index) }));
  await receive([{ subscriptions: [{ topic: TOPIC, subscribe: true }], messages: all, control: { ...control } }]);
  assert.ok(taken.every((rpc) => rpc.messages.length <= 8));
  assert.equal(
    taken.flatMap((rpc) => rpc.messages),
    all,
  );
  assert.equal(
    taken.flatMap((rpc) => rpc.subscriptions),
    [{ topic: TOPIC, subscribe: true }],
  );
  assert.is(taken.filter((rpc) => rpc.control !== undefined).length, 1);
});

test('who keeps a message keeps nothing of the RPC that it came in', async () => {
  const { taken, receive } = setUp();
  const rpc = new Uint8Array(4_000_000);
  const data = rpc.subarray(1_000, 1_200).fill(7);
  await receive([{ subscriptions: [], messages: [{ topic: TOPIC, data, from: rpc }] }]);
  const message = taken[0]?.messages[0];
  assert.is(message?.data?.buffer.byteLength, 200);
  assert.equal(message, { topic: TOPIC, data: new Uint8Array(200).fill(7) });
});

for (const [what, count, bytes] of [
  ['messages', 500, 10],
  ['bytes', 1, 1_000_000],
] as const) {
  test(`a stranger that is over its budget of ${what} waits; a peer with something to lose has more`, async () => {
    const rpcs = Array.from({ length: 12 }, () => ({ subscriptions: [], messages: messages(count) }));
    const stranger = setUp();
    await stranger.receive(rpcs, bytes);
    assert.ok(stranger.intake.stats.paused > 0);
    assert.is(stranger.taken.flatMap((rpc) => rpc.messages).length, 12 * count, 'and loses nothing');
    const validator = setUp({ known: true });
    await validator.receive(rpcs, bytes);
    assert.is(validator.intake.stats.paused, 0);
  });
}

test('what is of no use costs more', async () => {
  const { intake, receive } = setUp();
  await receive([{ subscriptions: [], messages: messages(10) }]);
  assert.is(intake.stats.paused, 0);
  for (let index = 0; index < 600; index++) intake.chargeUseless('peer' as never);
  await receive([{ subscriptions: [], messages: messages(10) }]);
  assert.ok(intake.stats.paused > 0);
});

test('frames that are no RPC cost their sender; the third is not forgiven', async () => {
  const { intake, stats, receive, graylisted, scores } = setUp();
  const good = { subscriptions: [], messages: messages(1) };
  await receive([good, good, good]);
  assert.is(stats.behaviourPenalty, 0);
  await receive(['garbage', good, 'garbage']);
  assert.is(intake.stats.malformed, 2);
  assert.is(stats.behaviourPenalty, 8);
  scores.set('peer', -180);
  await receive(['garbage']);
  assert.equal([...new Set(graylisted)], ['peer']);
});

test('a graylisted stranger is not read any further, not even the rest of an RPC', async () => {
  const { taken, receive, scores, graylisted, pubsub } = setUp();
  const handle = pubsub.score.score;
  let parts = 0;
  pubsub.score.score = (peer) => {
    parts += 1;
    if (parts > 4) scores.set(peer, -81);
    return handle(peer);
  };
  const rpc = { subscriptions: [], messages: messages(200) };
  await receive([rpc, rpc, rpc]);
  assert.ok(taken.length > 0 && taken.length < 8, `${taken.length} parts`);
  assert.equal([...new Set(graylisted)], ['peer']);
});

test('of what is offered so many are asked for as an answer may bring, and nothing that is known', async () => {
  const { taken, receive, pubsub } = setUp();
  for (let number = 0; number < 50; number++) pubsub.seenCache.put(Buffer.from(id(number)).toString('hex'));
  const ihave = [0, 1].map(() => ({ topicID: TOPIC, messageIDs: Array.from({ length: 300 }, (_, n) => id(n)) }));
  await receive([{ subscriptions: [], messages: [], control: { ...control, ihave } }]);
  const asked = taken[0]?.control?.ihave.flatMap(({ messageIDs }) => messageIDs) ?? [];
  assert.is(asked.length, MAX_MESSAGES_PER_RPC);
  assert.equal(asked[0], id(50));
  const large = setUp({ topicBytes: 1024 * 1024 });
  const offered = [{ topicID: TOPIC, messageIDs: Array.from({ length: 300 }, (_, n) => id(n)) }];
  await large.receive([{ subscriptions: [], messages: [], control: { ...control, ihave: offered } }]);
  assert.is(large.taken[0]?.control?.ihave[0]?.messageIDs.length, 4, 'four full proposals');
});

test('nobody is kept out of a mesh for longer than ten minutes, or told of other peers', async () => {
  const { taken, receive } = setUp();
  const prune = [{ topicID: TOPIC, peers: [{ peerID: id(1) }], backoff: 2 ** 40 }];
  await receive([{ subscriptions: [], messages: [], control: { ...control, prune } }]);
  assert.equal(taken[0]?.control?.prune, [{ topicID: TOPIC, peers: [], backoff: 600 }]);
});

test.run();
