/** Messages that come before their height: those of validators wait, those of strangers move nothing. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { encodeProposal, encodeVote, proposalSignBytes, voteSignBytes } from '../../node/chain/block.ts';
import { domainHash } from '../../node/chain/hash.ts';
import type { PeerIdText } from '../../node/network/interface.ts';
import { SIMULATED_NETWORK_ID, simulatedSigner, verifySeal } from '../simulation/node.ts';
import { startAll, type TestNetwork, testNetwork } from './network.ts';

const NOTHING = new Uint8Array(64);

/** A vote for the height as the validator with that number would cast it; `signed`: with its signature. */
function vote(index: number, height: number, signed: boolean, more: object = {}): Uint8Array {
  const { account, session } = simulatedSigner(index);
  const body = { type: 0, height, round: 0, blockId: domainHash('x'), ...more };
  const signature = signed ? session.sign(voteSignBytes(SIMULATED_NETWORK_ID, body)) : NOTHING;
  return encodeVote({ body, validator: account.account, signature });
}

/** The same for a proposal, whose block is as long as can be and nothing else. */
function proposal(index: number, height: number, round: number, signed: boolean): Uint8Array {
  const { account, session } = simulatedSigner(index);
  const body = { height, round, validRound: -1, blockId: domainHash(`block ${round}`) };
  const signature = signed ? session.sign(proposalSignBytes(SIMULATED_NETWORK_ID, body)) : NOTHING;
  return encodeProposal({ body, proposer: account.account, signature, block: new Uint8Array(1000 * 1024) });
}

/**
 * Virtual time in which the fourth validator finalizes height 5 once its disk lets go of height 4, while the first two
 * wait for it there (the third is down) and `attack` has been at work before they spoke.
 */
async function attacked(
  attack: (net: TestNetwork, send: (data: Uint8Array, topic: 'votes' | 'proposals', from?: string) => void) => void,
): Promise<{ readonly tookMs: number; readonly checks: number }> {
  let checks = 0;
  const net = testNetwork({
    node: (index) => ({
      ...(index === 3 && {
        verify: (...args) => {
          checks += 1;
          return verifySeal(...args);
        },
      }),
    }),
  });
  const { nodes, reach, world, network } = net;
  const [, , third, slow] = nodes;
  let release = () => {};
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  slow.beforeCommit = async (height) => (height === 4 ? gate : undefined);
  startAll(nodes);
  assert.ok(await reach(3, 5_000));
  third.crash();
  assert.ok(await reach(4, 5_000, nodes.slice(0, 2)));
  checks = 0;
  attack(net, (data, topic, from = 'stranger') => {
    network.join(from as PeerIdText, { near: true });
    network.sendTo(from as PeerIdText, slow.peer, topic, data);
  });
  await world.run(80);
  assert.is(slow.height, 3);
  const checksBefore = checks;
  const fromMs = world.nowMs;
  release();
  assert.ok(await reach(5, 30_000, [slow]));
  return { tookMs: world.nowMs - fromMs, checks: checksBefore };
}

/** Two message delays and what the engine needs: far less than the 200 ms after which a node asks its peers. */
const PROMPT_MS = 60;

test('what validators say of the next height is there when it begins', async () => {
  const { tookMs, checks } = await attacked(() => {});
  assert.ok(checks < 10, `${checks} signature checks`);
  assert.ok(tookMs < PROMPT_MS, `${tookMs} ms`);
});

test('strangers cannot crowd it out: unsigned proposals and votes, of whatever name, from many peers', async () => {
  const { tookMs } = await attacked((_, send) => {
    for (let peer = 0; peer < 50; peer++) {
      send(proposal(1 + (peer % 4), 5, peer % 4, false), 'proposals', `stranger ${peer}`);
      for (let index = 0; index < 300; index++)
        send(vote(1 + (index % 5), 5, false, { round: index % 7 }), 'votes', `stranger ${peer}`);
    }
  });
  assert.ok(tookMs < PROMPT_MS, `${tookMs} ms`);
});

test('one validator cannot crowd out the others', async () => {
  const { tookMs, checks } = await attacked((_, send) => {
    for (let round = 0; round < 50; round++) {
      send(proposal(3, 5, round, true), 'proposals', `peer ${round}`);
      for (let more = 0; more < 256; more++)
        send(vote(3, 5, true, { round: more, blockId: domainHash(`${round}`) }), 'votes', `peer ${round}`);
    }
  });
  assert.ok(checks < 40, `${checks} signature checks`);
  assert.ok(tookMs < PROMPT_MS, `${tookMs} ms`);
});

test.run();
