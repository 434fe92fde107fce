/** Peers that make a node ask them, and do not answer: others are asked all the same. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { PeerIdText } from '../../node/network/interface.ts';
import { seededRandom } from '../simulation/random.ts';
import { SyncPeer, type SyncPeerKind } from '../simulation/sync-peers.ts';
import { chainsAgree, startAll, testNetwork } from './network.ts';

/** Virtual time in which an observer that comes late has the blocks that were there, among so many useless peers. */
async function catchUpMs(count: number, kind: SyncPeerKind): Promise<number> {
  const { network, nodes, reach, world } = testNetwork({ observers: 1 });
  const [late] = nodes.slice(4);
  const others = nodes.slice(0, 4);
  startAll(others);
  assert.ok(await reach(60, 60_000, others));
  for (const node of others) node.busy = false;
  for (let index = 0; index < count; index++) {
    const peer = `${kind}${index}` as PeerIdText;
    const init = { world, network, random: seededRandom(index), peer, kind, chain: () => others[0].chain };
    new SyncPeer(init).start();
  }
  const fromMs = world.nowMs;
  void late.start();
  assert.ok(await reach(60, 300_000, [late]), 'it never catches up');
  assert.ok(chainsAgree(nodes));
  return world.nowMs - fromMs;
}

for (const kind of ['silent', 'slow', 'lying'] as const) {
  test(`twelve ${kind} peers that boast of their height do not keep a node from catching up`, async () => {
    const tookMs = await catchUpMs(12, kind);
    assert.ok(tookMs < 3_000, `${tookMs} ms`);
  });
}

test.run();
