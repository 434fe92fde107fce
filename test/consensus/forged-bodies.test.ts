/** What a peer without keys can do with a signed header and a body of its own making: nothing. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { PeerIdText } from '../../node/network/interface.ts';
import { FORGERIES, Forger } from '../simulation/forger.ts';
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

test.run();
