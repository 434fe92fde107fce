/** What a peer without keys can do with a signed header and a body of its own making: nothing. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { blockId, encodeBlock, encodeProposal, proposalSignBytes } from '../../node/chain/block.ts';
import type { PeerIdText } from '../../node/network/interface.ts';
import { FORGERIES, Forger } from '../simulation/forger.ts';
import { SIMULATED_NETWORK_ID, simulatedSigner } from '../simulation/node.ts';
import { seededRandom } from '../simulation/random.ts';
import { chainsAgree, startAll, testNetwork } from './network.ts';

/** Longest run, in the network's time: some hundred blocks. */
const RUN_MS = 6_000;

/** Blocks of a network in {@link RUN_MS}, with forgers among them. */
async function blocks(forgers: (net: ReturnType<typeof testNetwork>) => readonly Forger[]): Promise<{
  readonly height: number;
  readonly rounds: number;
  readonly rejected: number;
}> {
  const net = testNetwork({ observers: 1 });
  for (const forger of forgers(net)) forger.start();
  startAll(net.nodes);
  await net.world.run(RUN_MS);
  assert.ok(chainsAgree(net.nodes));
  return {
    height: Math.min(...net.nodes.map(({ height }) => height)),
    rounds: net.nodes[0].chain.blocks.filter(({ commit }) => commit.round > 0).length,
    rejected: net.network.counts.rejected,
  };
}

const quiet = await blocks(() => []);

for (const [name, forge] of Object.entries(FORGERIES)) {
  test(`a forger who is nearer than the proposer, with ${name}: blocks go on in their first round`, async () => {
    const { height, rounds, rejected } = await blocks(({ network }) => [
      new Forger(network, seededRandom(1), 'forger' as PeerIdText, (block) => [forge(block)]),
    ]);
    assert.is(rounds, 0, `${rounds} blocks needed a further round`);
    assert.ok(height >= quiet.height * 0.9, `${height} blocks instead of ${quiet.height}`);
    // Each forged body is held against the peer that delivered it.
    assert.ok(rejected >= height * 4, `${rejected} rejected in ${height} heights`);
  });
}

test('the right body is taken from the same peer, after all the forged ones', async () => {
  const { height, rounds } = await blocks(({ network }) => [
    new Forger(network, seededRandom(1), 'forger' as PeerIdText, (block) => [
      ...Object.values(FORGERIES).map((forge) => forge(block)),
      block,
    ]),
  ]);
  assert.is(rounds, 0);
  assert.ok(height >= quiet.height * 0.9, `${height} blocks instead of ${quiet.height}`);
});

test('of many blocks that a proposer signs for its round, one is executed', async () => {
  const net = testNetwork({ node: () => ({ diskDelayMs: 20 }) });
  const honest = net.nodes.slice(0, 3);
  const [{ chain, peer }] = honest;
  startAll(honest);
  assert.ok(await net.reach(3, 30_000, honest));
  // The engine is at the next height when its log is.
  await net.world.run(60);
  const { account, session } = simulatedSigner(4);
  const stranger = net.network.join('v4' as PeerIdText, { near: true });
  const { block } = chain.blocks[2];
  const before = honest[0].application?.validated ?? 0;
  for (let index = 1; index <= 8; index++) {
    const header = {
      ...block.header,
      height: 4,
      proposer: account.account,
      timeMs: block.header.timeMs + BigInt(index),
    };
    const body = { height: 4, round: 0, validRound: -1, blockId: blockId(header) };
    const signature = session.sign(proposalSignBytes(SIMULATED_NETWORK_ID, body));
    const data = encodeProposal({
      body,
      proposer: account.account,
      signature,
      block: encodeBlock({ ...block, header }),
    });
    net.network.sendTo(stranger.peer, peer, 'proposals', data);
  }
  await net.world.run(200);
  assert.is(honest[0].height, 3);
  assert.is((honest[0].application?.validated ?? 0) - before, 1);
  assert.ok(await net.reach(5, 30_000, honest));
});

test.run();
