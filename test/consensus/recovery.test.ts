/** Crashes at every single write, lost logs, failing disks. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { decodeProposal, decodeVote, encodeVote, voteSignBytes } from '../../node/chain/block.ts';
import { decodeEvidence } from '../../node/chain/evidence.ts';
import { domainHash } from '../../node/chain/hash.ts';
import {
  CATCH_UP_LIMITS,
  CATCH_UP_PROTOCOL,
  catchUpRequest,
  decodeCatchUpResponse,
} from '../../node/consensus/catch-up.ts';
import type { PeerIdText } from '../../node/network/interface.ts';
import { SIMULATED_NETWORK_ID, simulatedSigner } from '../simulation/node.ts';
import { chainsAgree, startAll, testNetwork } from './network.ts';

/** Writes of one validator until the height, by kind. */
async function countWrites(height: number): Promise<number> {
  const { nodes, reach } = testNetwork();
  let writes = 0;
  nodes[1].disk.onWrite = () => writes++;
  nodes[1].beforeCommit = async () => {
    writes++;
  };
  startAll(nodes);
  assert.ok(await reach(height, 10_000));
  return writes;
}

test('killed at every write of log, guard and block: it never signs twice, loses no block, and rejoins', async () => {
  const HEIGHT = 5;
  const total = await countWrites(HEIGHT);
  assert.ok(total > 40, `${total} writes`);
  let torn = 0;
  for (let at = 1; at <= total; at++) {
    const { nodes, reach, world, doubleSigned } = testNetwork({ seed: at });
    const [, victim] = nodes;
    let writes = 0;
    let killed = false;
    let lost: string[] = [];
    const kill = () => {
      writes += 1;
      if (writes !== at || killed) return;
      killed = true;
      victim.crash();
      lost = victim.chain.blocks.map(({ commit }) => commit.blockId);
      world.after(100, () => void victim.start());
    };
    victim.disk.onWrite = kill;
    victim.beforeCommit = async () => kill();
    startAll(nodes);
    assert.ok(await reach(HEIGHT + 3, 30_000), `write ${at}: no progress`);
    assert.ok(killed, `write ${at} did not happen`);
    assert.equal(doubleSigned(), [], `write ${at}`);
    assert.ok(chainsAgree(nodes), `write ${at}`);
    for (const [index, id] of lost.entries()) assert.is(victim.blockIdAt(index + 1), id);
    assert.ok(victim.service?.status.voting, `write ${at}: it votes again`);
    torn += victim.disk.tornTails;
    for (const node of nodes) node.crash();
  }
  assert.ok(torn > 5, `${torn} torn files`);
});

test('killed at every write while an equivocator is found out: nothing signed twice, evidence once, nobody else blamed', async () => {
  const offender = simulatedSigner(4);
  const run = (seed: number) => {
    const net = testNetwork({ seed });
    const honest = net.nodes.slice(0, 3);
    const votes = ['x', 'y'].map((value) => {
      const body = { type: 0, height: 2, round: 0, blockId: domainHash(value) };
      const signature = offender.session.sign(voteSignBytes(SIMULATED_NETWORK_ID, body));
      return encodeVote({ body, validator: offender.account.account, signature });
    });
    const cheat = net.network.join('v4' as PeerIdText);
    const act = () => {
      for (const data of votes) void cheat.gossip.publish('votes', data);
    };
    return { ...net, honest, act };
  };
  const writesUntil = async (height: number) => {
    const { honest, reach, act } = run(1);
    const files = new Set<string>();
    let writes = 0;
    honest[1].disk.onWrite = (_, file) => {
      files.add(file);
      writes += 1;
    };
    startAll(honest);
    await reach(1, 10_000, honest);
    act();
    assert.ok(await reach(height, 30_000, honest));
    assert.ok(files.has('evidence.log'));
    return writes;
  };
  const total = await writesUntil(5);
  for (let at = 1; at <= total; at++) {
    const { honest, reach, world, act, doubleSigned } = run(at);
    const [, victim] = honest;
    let writes = 0;
    victim.disk.onWrite = () => {
      writes += 1;
      if (writes !== at) return;
      victim.crash();
      world.after(100, () => void victim.start());
    };
    startAll(honest);
    assert.ok(await reach(1, 30_000, honest));
    act();
    assert.ok(await reach(8, 60_000, honest), `write ${at}: no progress`);
    assert.equal(
      doubleSigned().filter((key) => !key.startsWith('v4')),
      [],
      `write ${at}`,
    );
    for (const node of honest) {
      const blamed = node.chain.blocks.flatMap(({ block }) => block.evidence.map(decodeEvidence));
      assert.equal(
        blamed.map(({ first }) => first.validator),
        [offender.account.account],
        `write ${at}`,
      );
    }
    for (const node of honest) node.crash();
  }
});

test('a message of its own that is not on disk yet is told to nobody, not even to a peer that asks', async () => {
  const { nodes, network, world, reach } = testNetwork({ node: () => ({ diskDelayMs: 20 }) });
  const [asked] = nodes;
  let own = 0;
  let early = 0;
  network.onAnswer = (protocol, data, from) => {
    if (protocol !== CATCH_UP_PROTOCOL || from !== asked.peer) return;
    const { votes, proposals } = decodeCatchUpResponse(data);
    const isOwn = (author: string) => author === simulatedSigner(1).account.account;
    for (const bytes of [
      ...votes.filter((vote) => isOwn(decodeVote(vote).validator)),
      ...proposals.filter((proposal) => isOwn(decodeProposal(proposal).proposer)),
    ]) {
      own += 1;
      if (!asked.disk.durable('consensus.wal').includes(Buffer.from(bytes))) early += 1;
    }
  };
  const curious = network.join('curious' as PeerIdText);
  startAll(nodes);
  while (asked.height < 6) {
    const core = asked.service?.core;
    if (core !== undefined) {
      const options = { limits: CATCH_UP_LIMITS };
      const request = catchUpRequest({ ...core, proposals: new Map() });
      curious.requests.request(asked.peer, CATCH_UP_PROTOCOL, request, options).catch(() => {});
    }
    await world.run(2);
  }
  assert.is(early, 0, 'told before they were on disk');
  assert.ok(own > 20, `${own} of its own messages were told`);
  assert.ok(await reach(7, 10_000));
});

test('all four killed at the same write of each', async () => {
  const total = Math.min(60, await countWrites(4));
  for (let at = 1; at <= total; at += 2) {
    const { nodes, reach, world, doubleSigned } = testNetwork({ seed: at });
    for (const node of nodes) {
      let writes = 0;
      const kill = () => {
        writes += 1;
        if (writes !== at) return;
        node.crash();
        world.after(150, () => void node.start());
      };
      node.disk.onWrite = kill;
      node.beforeCommit = async () => kill();
    }
    startAll(nodes);
    assert.ok(await reach(6, 60_000), `write ${at}: no progress`);
    assert.equal(doubleSigned(), [], `write ${at}`);
    assert.ok(chainsAgree(nodes));
    for (const node of nodes) node.crash();
  }
});

test('a network of one, killed at every write, goes on from its log', async () => {
  for (let at = 1; at <= 40; at++) {
    const { nodes, reach, world, doubleSigned } = testNetwork({ powers: [1n], seed: at });
    const [only] = nodes;
    let writes = 0;
    const kill = () => {
      writes += 1;
      if (writes !== at) return;
      only.crash();
      world.after(50, () => void only.start());
    };
    only.disk.onWrite = kill;
    only.beforeCommit = async () => kill();
    startAll(nodes);
    assert.ok(await reach(8, 30_000), `write ${at}: no progress`);
    assert.ok(writes >= at);
    assert.equal(doubleSigned(), [], `write ${at}`);
    only.crash();
  }
});

/** Crashes all when v2 has just sent its prevote and nobody has heard anything of it. */
async function crashInTheMiddle(seed: number) {
  const test = testNetwork({ seed });
  const { nodes, reach, world, network, published } = test;
  startAll(nodes);
  await reach(3, 10_000);
  const height = nodes[0].height + 1;
  const calm = network.weather;
  assert.ok(
    await world.runUntil(() => {
      // Proposals arrive, votes do not.
      if ([...published.keys()].some((key) => key.startsWith(`v2 ${height}/0/0`))) return true;
      if ([...published.keys()].some((key) => key.includes(` ${height}/0/0`))) network.weather = { ...calm, loss: 1 };
      return false;
    }, 10_000),
  );
  network.weather = { ...calm, loss: 1 };
  await world.run(5);
  for (const node of nodes) node.crash();
  network.weather = calm;
  return { ...test, height };
}

test('a validator that lost its log, but not its guard, does not vote in that height', async () => {
  let tried = 0;
  for (let seed = 1; seed <= 8; seed++) {
    const { nodes, height, reach, world, published, doubleSigned } = await crashInTheMiddle(seed);
    const [first, victim, ...others] = nodes;
    if (nodes.some((node) => node.height >= height)) continue;
    tried += 1;
    victim.disk.overwrite('consensus.wal', Buffer.alloc(0));
    const votesOfVictim = () => [...published.keys()].filter((key) => key.startsWith(`v2 ${height}/`)).length;
    const before = votesOfVictim();
    // Without the first, these three are a quorum only together.
    startAll([victim, ...others]);
    await world.run(10_000);
    assert.is(votesOfVictim(), before, 'it signed nothing new at that height');
    assert.not(victim.service?.status.voting);
    assert.ok([victim, ...others].every((node) => node.height < height));
    void first.start();
    assert.ok(await reach(height + 3, 30_000));
    assert.is(votesOfVictim(), before);
    assert.ok(victim.service?.status.voting, 'and votes again after it');
    assert.equal(doubleSigned(), []);
    for (const node of nodes) node.crash();
  }
  assert.ok(tried >= 4, `${tried} runs reached the point`);
});

test('a validator that lost its guard learns from its log what it signed', async () => {
  const { nodes, height, reach, doubleSigned } = await crashInTheMiddle(4);
  nodes[1].disk.overwrite('signer.log', Buffer.alloc(0));
  startAll(nodes);
  assert.ok(await reach(height + 3, 30_000));
  assert.equal(doubleSigned(), []);
});

test('a log damaged anywhere never leads to a second signature', async () => {
  for (let seed = 0; seed < 30; seed++) {
    const { nodes, height, reach, doubleSigned } = await crashInTheMiddle(seed);
    const [, victim] = nodes;
    const log = Buffer.from(victim.disk.content('consensus.wal'));
    if (log.length > 0) log[Math.floor((seed / 30) * log.length)] ^= 0x55;
    victim.disk.overwrite('consensus.wal', log);
    startAll(nodes);
    assert.ok(await reach(height + 2, 30_000), `seed ${seed}`);
    assert.equal(doubleSigned(), [], `seed ${seed}`);
    assert.ok(chainsAgree(nodes));
    for (const node of nodes) node.crash();
  }
});

test('a validator whose disk fails stands still and says nothing; when the disk works it goes on', async () => {
  const { nodes, reach, world, published, doubleSigned } = testNetwork();
  const [, victim] = nodes;
  startAll(nodes);
  await reach(4, 10_000);
  let failing = true;
  victim.disk.onWrite = () => {
    if (failing) throw new Error('no space left on device');
  };
  await world.run(100);
  const said = [...published.keys()].filter((key) => key.startsWith('v2 ')).length;
  const { height } = victim;
  await world.run(3_000);
  assert.is([...published.keys()].filter((key) => key.startsWith('v2 ')).length, said);
  assert.ok(victim.height <= height + 1);
  assert.ok(nodes[0].height > height + 2, 'the others go on');
  failing = false;
  assert.ok(await reach(nodes[0].height + 3, 30_000));
  assert.equal(doubleSigned(), []);
});

test.run();
