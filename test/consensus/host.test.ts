/** The host of the core: whole nodes over a simulated network, clock and disk. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { encodeVote, voteSignBytes } from '../../node/chain/block.ts';
import type { PeerIdText } from '../../node/network/interface.ts';
import {
  SIMULATED_NETWORK_ID,
  SIMULATED_PARAMETERS,
  simulatedSigner,
  simulatedValidators,
  verifySeal,
} from '../simulation/node.ts';
import { seededRandom } from '../simulation/random.ts';
import { chainsAgree, commitsVerify, startAll, testNetwork } from './network.ts';

test('four validators and an observer finalize the same blocks, each with a commit that verifies', async () => {
  const { nodes, reach, doubleSigned } = testNetwork({ observers: 1 });
  startAll(nodes);
  assert.ok(await reach(20, 10_000));
  assert.ok(chainsAgree(nodes));
  assert.equal(doubleSigned(), []);
  for (const node of nodes) {
    assert.ok(commitsVerify(node));
    let previousMs = 0n;
    for (const { block } of node.chain.blocks) {
      assert.ok(block.header.timeMs > previousMs);
      previousMs = block.header.timeMs;
    }
  }
  const proposers = new Set(nodes[0].chain.blocks.map(({ block }) => block.header.proposer));
  assert.is(proposers.size, 4, 'everyone had a turn');
  assert.ok(nodes[0].chain.blocks.every(({ commit }) => commit.round === 0));
});

test('"finalized" comes once for each height, in order, after the block is durable', async () => {
  const heights: number[] = [];
  const durable: number[] = [];
  const { nodes, reach } = testNetwork({
    node: (index) =>
      index > 0
        ? {}
        : {
            // Compared below: what a listener throws is kept from the engine.
            onFinalized: (node, { block }) => {
              heights.push(block.header.height);
              durable.push(node.height);
            },
          },
  });
  startAll(nodes);
  assert.ok(await reach(10, 10_000));
  assert.equal(heights.slice(0, 10), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  assert.equal(durable, heights);
});

test('a network of one validator finalizes', async () => {
  const { nodes, reach } = testNetwork({ powers: [1n] });
  startAll(nodes);
  assert.ok(await reach(10, 5_000));
});

test('with work a block comes each interval, without one each empty-block interval', async () => {
  const { nodes, reach, world } = testNetwork();
  startAll(nodes);
  await reach(1, 5_000);
  const busyMs = world.nowMs;
  await reach(21, 20_000);
  const busy = (world.nowMs - busyMs) / 20;
  assert.ok(
    busy >= SIMULATED_PARAMETERS.blockIntervalMs && busy < SIMULATED_PARAMETERS.blockIntervalMs + 40,
    `${busy}`,
  );
  for (const node of nodes) node.busy = false;
  await reach(23, 5_000);
  const idleMs = world.nowMs;
  await reach(28, 20_000);
  const idle = (world.nowMs - idleMs) / 5;
  assert.ok(
    idle >= SIMULATED_PARAMETERS.emptyBlockIntervalMs * 0.9 && idle < SIMULATED_PARAMETERS.emptyBlockIntervalMs + 60,
    `${idle}`,
  );
  assert.ok(
    nodes[0].chain.blocks.every(({ commit }) => commit.round === 0),
    'waiting is no failed round',
  );
  // Work that arrives in the middle is taken up at once.
  await reach(nodes[0].height + 1, 5_000);
  await world.run(120);
  const height = Math.max(...nodes.map((node) => node.height));
  for (const node of nodes) {
    node.busy = true;
    node.application?.announceWork();
  }
  const fromMs = world.nowMs;
  assert.ok(await reach(height + 1, 1_000));
  assert.ok(world.nowMs - fromMs < 60, `${world.nowMs - fromMs}`);
});

test('each vote and proposal costs one signature check, whoever sends it how often', async () => {
  let checks = 0;
  const { nodes, reach, network } = testNetwork({
    node: (index) =>
      index > 0
        ? {}
        : {
            verify: (...args) => {
              checks += 1;
              return verifySeal(...args);
            },
          },
  });
  network.weather = { minDelayMs: 1, maxDelayMs: 5, loss: 0, duplication: 0.9 };
  startAll(nodes);
  await reach(40, 20_000);
  // Three others: two votes each, and a proposal in three of four heights.
  assert.ok(checks <= nodes[0].height * 7, `${checks} in ${nodes[0].height} heights`);
});

test('a block is executed once by each validator', async () => {
  const { nodes, reach } = testNetwork();
  startAll(nodes);
  await reach(40, 20_000);
  const { application, height } = nodes[0];
  assert.ok((application?.validated ?? 0) <= height + 1, `${application?.validated} for ${height}`);
});

test('one of four may be away; back again it catches up, votes and never contradicts itself', async () => {
  const { nodes, reach, doubleSigned, world } = testNetwork();
  startAll(nodes);
  await reach(5, 5_000);
  nodes[2].crash();
  const others = nodes.filter((_, index) => index !== 2);
  assert.ok(await reach(25, 60_000, others));
  void nodes[2].start();
  assert.ok(await reach(26, 10_000));
  const { height } = nodes[0];
  await reach(height + 8, 10_000);
  const own = simulatedSigner(3).account.account;
  const recent = nodes[0].chain.blocks.slice(height);
  assert.ok(
    recent.some(({ commit }) => commit.signatures.some(({ validator }) => validator === own)),
    'it votes again',
  );
  assert.ok(
    recent.some(({ block }) => block.header.proposer === own),
    'it proposes again',
  );
  assert.equal(doubleSigned(), []);
  assert.ok(chainsAgree(nodes));
  assert.ok(world.nowMs > 0);
});

test('without two thirds nothing is finalized, and with them it goes on where it was', async () => {
  const { nodes, reach, world, doubleSigned } = testNetwork();
  startAll(nodes);
  await reach(3, 5_000);
  nodes[0].crash();
  nodes[1].crash();
  await world.run(500);
  const height = Math.max(nodes[2].height, nodes[3].height);
  await world.run(60_000);
  assert.ok(nodes[2].height <= height + 1);
  void nodes[1].start();
  const fromMs = world.nowMs;
  assert.ok(await reach(height + 3, 20_000, nodes.slice(1)));
  assert.ok(world.nowMs - fromMs < 20_000);
  assert.equal(doubleSigned(), []);
});

test('all crash at once, at any moment, and go on without losing or contradicting anything', async () => {
  for (let seed = 0; seed < 25; seed++) {
    const { nodes, reach, world, doubleSigned } = testNetwork({ seed, node: () => ({ diskDelayMs: 3 }) });
    startAll(nodes);
    await reach(2, 10_000);
    await world.run(3 + seed * 7);
    const before = nodes.map((node) => node.chain.blocks.map(({ commit }) => commit.blockId));
    for (const node of nodes) node.crash();
    await world.run(50);
    startAll(nodes);
    const height = Math.max(...nodes.map((node) => node.height));
    assert.ok(await reach(height + 3, 20_000), `seed ${seed}`);
    for (const [index, node] of nodes.entries())
      for (const [at, id] of before[index].entries()) assert.is(node.blockIdAt(at + 1), id);
    assert.equal(doubleSigned(), [], `seed ${seed}`);
    assert.ok(chainsAgree(nodes));
    for (const node of nodes) node.crash();
  }
});

test('an orderly stop closes the files, and the next start goes on', async () => {
  const { nodes, reach, world, doubleSigned } = testNetwork();
  startAll(nodes);
  await reach(4, 5_000);
  let stopped = 0;
  for (const node of nodes) void node.stop().then(() => stopped++);
  assert.ok(await world.runUntil(() => stopped === 4, 5_000));
  const { height } = nodes[0];
  await world.run(2_000);
  assert.is(nodes[0].height, height, 'nothing happens after a stop');
  startAll(nodes);
  assert.ok(await reach(height + 4, 10_000));
  assert.equal(doubleSigned(), []);
});

test('a message lost for all is asked for: progress with a third of all messages lost', async () => {
  const { nodes, reach, network, doubleSigned } = testNetwork();
  network.weather = { minDelayMs: 1, maxDelayMs: 5, loss: 0.35, duplication: 0 };
  startAll(nodes);
  assert.ok(await reach(10, 120_000));
  assert.equal(doubleSigned(), []);
});

test('a clock that runs ahead costs its owner its turns, and nobody else anything', async () => {
  const { nodes, reach } = testNetwork({ node: (index) => (index === 1 ? { skewMs: 10_000 } : {}) });
  startAll(nodes);
  assert.ok(await reach(12, 60_000));
  const ahead = simulatedSigner(2).account.account;
  for (const { block } of nodes[0].chain.blocks) assert.is.not(block.header.proposer, ahead);
  assert.ok(chainsAgree(nodes));
});

test('a clock within the bound is borne with, and time stays monotonic', async () => {
  const { nodes, reach } = testNetwork({
    node: (index) => (index === 1 ? { skewMs: 150 } : index === 2 ? { skewMs: -150 } : {}),
  });
  startAll(nodes);
  assert.ok(await reach(12, 60_000));
  assert.ok(nodes[0].chain.blocks.every(({ commit }) => commit.round === 0));
});

test('the validator set changes: newcomers vote and propose, who left does neither', async () => {
  const all = simulatedValidators([10n, 10n, 10n, 10n, 10n]);
  const validatorsAt = (height: number) => (height < 8 ? all.slice(0, 4) : all.slice(1, 5));
  const { nodes, reach, doubleSigned } = testNetwork({ powers: [10n, 10n, 10n, 10n, 10n], validatorsAt });
  startAll(nodes);
  assert.ok(await reach(30, 30_000));
  assert.ok(chainsAgree(nodes));
  const [first, last] = [all[0].account, all[4].account];
  for (const { block, commit } of nodes[0].chain.blocks) {
    const signers = commit.signatures.map(({ validator }) => validator);
    assert.not(signers.includes(block.header.height < 8 ? last : first));
  }
  assert.ok(nodes[0].chain.blocks.some(({ block }) => block.header.proposer === last));
  assert.equal(doubleSigned(), []);
});

test('gossip: forgeries are rejected, what is merely late or early is ignored, and nothing throws', async () => {
  const { nodes, reach, network, world } = testNetwork();
  startAll(nodes);
  await reach(8, 5_000);
  const random = seededRandom(4);
  const stranger = network.join('stranger' as PeerIdText);
  const height = nodes[0].height + 1;
  const forged = (index: number, more: object) => {
    const body = { type: 0, height, round: 0, blockId: undefined, ...more };
    return encodeVote({
      body,
      validator: simulatedSigner(index).account.account,
      signature: simulatedSigner(1).session.sign(voteSignBytes(SIMULATED_NETWORK_ID, body)),
    });
  };
  const rejectedBy = async (data: Uint8Array, topic: 'votes' | 'proposals' = 'votes') => {
    const before = network.counts.rejected;
    await stranger.gossip.publish(topic, data);
    await world.run(6);
    return network.counts.rejected - before;
  };
  assert.is(await rejectedBy(forged(9, { height: nodes[0].height + 1 })), 4, 'not a validator');
  assert.is(await rejectedBy(forged(2, { height: nodes[0].height + 1, round: 3 })), 4, "another's key");
  assert.is(await rejectedBy(new Uint8Array([1, 2, 3])), 4, 'malformed');
  assert.is(await rejectedBy(new Uint8Array([1, 2, 3]), 'proposals'), 4, 'malformed');
  assert.is(await rejectedBy(forged(2, { height: 1 })), 0, 'old');
  assert.is(await rejectedBy(forged(2, { height: 1_000 })), 0, 'far ahead');
  assert.is(await rejectedBy(forged(2, { height: nodes[0].height + 1, type: 2 })), 4, 'no type of vote');
  for (let run = 0; run < 300; run++) {
    const bytes = Uint8Array.from({ length: random.below(400) }, () => random.below(256));
    await stranger.gossip.publish(random.pick(['votes', 'proposals'] as const), bytes);
    for (const name of ['consensus-height', 'consensus-blocks']) {
      const limits = { maxRequestBytes: 4096, maxResponseBytes: 1 << 21, timeoutMs: 1000 };
      stranger.requests.request(nodes[run % 4].peer, name, bytes, { limits }).catch(() => {});
    }
  }
  assert.ok(await reach(nodes[0].height + 5, 10_000));
  assert.ok(chainsAgree(nodes));
});

test('messages of the next height that came early are not lost', async () => {
  // One node is slow with its disk: the others are a height ahead of it most of the time.
  const { nodes, reach, network } = testNetwork({ node: (index) => (index === 3 ? { diskDelayMs: 30 } : {}) });
  startAll(nodes);
  const requests = () => network.counts.sent;
  assert.ok(await reach(30, 30_000));
  assert.ok(requests() > 0);
  const own = simulatedSigner(4).account.account;
  const signed = nodes[0].chain.blocks.filter(({ commit }) =>
    commit.signatures.some(({ validator }) => validator === own),
  );
  assert.ok(nodes[3].height >= 30 && signed.length >= 0);
});

test.run();
