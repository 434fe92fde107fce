/** Evidence of equivocation: found, told, kept, committed once, and its offender out two heights later. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { encodeVote, type Vote, type VoteBody, voteSignBytes } from '../../node/chain/block.ts';
import {
  decodeEvidence,
  type EquivocationEvidence,
  encodeEvidence,
  equivocationEvidence,
} from '../../node/chain/evidence.ts';
import { domainHash } from '../../node/chain/hash.ts';
import type { EvidenceStatus } from '../../node/consensus/application.ts';
import { EvidencePool, MAX_PENDING_EVIDENCE, MAX_PENDING_PER_OFFENDER } from '../../node/consensus/evidence-pool.ts';
import { silentLogger } from '../../node/consensus/logger.ts';
import type { PeerIdText } from '../../node/network/interface.ts';
import { Equivocator } from '../simulation/byzantine.ts';
import { SimulatedDisk } from '../simulation/disk.ts';
import {
  SIMULATED_NETWORK_ID,
  type SimulatedNode,
  simulatedSigner,
  simulatedValidators,
  verifySeal,
} from '../simulation/node.ts';
import { seededRandom } from '../simulation/random.ts';
import { World } from '../simulation/world.ts';
import { chainsAgree, startAll, type TestNetwork, testNetwork } from './network.ts';

const VALIDATORS = simulatedValidators([10n, 10n, 10n, 10n]);
const X = domainHash('x');
const Y = domainHash('y');

/** A vote of validator number `index` that verifies. */
function signed(index: number, body: Partial<VoteBody> & { height: number }): Vote {
  const full: VoteBody = { type: 0, round: 0, blockId: undefined, ...body };
  const { account, session } = simulatedSigner(index);
  const signature = session.sign(voteSignBytes(SIMULATED_NETWORK_ID, full));
  return { body: full, validator: account.account, signature };
}

const proof = (index: number, height: number, round = 0): EquivocationEvidence =>
  equivocationEvidence(
    signed(index, { height, round, blockId: X }),
    signed(index, { height, round, blockId: Y }),
    VALIDATORS,
  );

/** Evidence in the blocks of a node, with the height of each block. */
function committed({ chain }: SimulatedNode): { height: number; evidence: EquivocationEvidence }[] {
  return chain.blocks.flatMap(({ block }) =>
    block.evidence.map((bytes) => ({ height: block.header.height, evidence: decodeEvidence(bytes) })),
  );
}

/** Three honest validators that run, and the key of a fourth in the hands of the test. */
async function threeAndKey(
  init: Parameters<typeof testNetwork>[0] = {},
): Promise<TestNetwork & { honest: SimulatedNode[] }> {
  const net = testNetwork(init);
  const honest = net.nodes.slice(0, 3);
  startAll(honest);
  assert.ok(await net.reach(3, 30_000, honest));
  return { ...net, honest };
}

test('an equivocator is in a block once, and out two heights after it', async () => {
  const { nodes, reach, network } = testNetwork();
  const honest = nodes.slice(0, 3);
  const offender = simulatedSigner(4).account.account;
  new Equivocator(network, seededRandom(5), simulatedSigner(4), 'v4' as PeerIdText).start();
  startAll(honest);
  assert.ok(await reach(12, 120_000, honest));
  for (const node of honest) {
    const found = committed(node);
    // Rounds and types are offences of their own: a block may hold several, but after it there is nobody to blame.
    assert.ok(found.length > 0);
    assert.is(new Set(found.map(({ height }) => height)).size, 1);
    assert.ok(found.every(({ evidence }) => evidence.first.validator === offender));
    const [{ height }] = found;
    const isIn = (at: number) => node.application?.validators(at)?.some(({ account }) => account === offender);
    assert.ok(isIn(height + 1));
    assert.not(isIn(height + 2));
    for (const { block, commit } of node.chain.blocks.slice(height + 1)) {
      assert.is.not(block.header.proposer, offender);
      assert.not(commit.signatures.some(({ validator }) => validator === offender));
    }
  }
  assert.ok(chainsAgree(honest));
});

test('a second vote that comes after its height is over is evidence all the same', async () => {
  const { honest, network, reach } = await threeAndKey();
  const stranger = network.join('v4' as PeerIdText);
  const height = honest[0].height + 1;
  await stranger.gossip.publish('votes', encodeVote(signed(4, { height, blockId: X })));
  assert.ok(await reach(height + 2, 10_000, honest));
  assert.is(committed(honest[0]).length, 0);
  await stranger.gossip.publish('votes', encodeVote(signed(4, { height, blockId: Y })));
  assert.ok(await reach(height + 5, 10_000, honest));
  for (const node of honest) assert.is(committed(node).length, 1);
});

test('one node that saw both votes is enough, also when it is gone afterwards', async () => {
  const { nodes, network, world, reach } = testNetwork({ powers: Array.from({ length: 7 }, () => 10n) });
  const honest = nodes.slice(0, 6);
  const witness = honest[1];
  const rest = honest.filter((node) => node !== witness);
  startAll(honest);
  assert.ok(await reach(3, 30_000, honest));
  const cheat = network.join('v7' as PeerIdText);
  const height = witness.height + 1;
  for (const blockId of [X, Y])
    network.sendTo(cheat.peer, witness.peer, 'votes', encodeVote(signed(7, { height, blockId })));
  assert.ok(await world.runUntil(() => witness.evidence.length > 0, 5_000));
  await world.run(10);
  witness.crash();
  assert.ok(await reach(height + 12, 60_000, rest));
  for (const node of rest) assert.is(committed(node).length, 1);
});

test('gossip: forged evidence is rejected, what is known or early is ignored, what is new is passed on', async () => {
  const { honest, network, world } = await threeAndKey();
  const stranger = network.join('stranger' as PeerIdText);
  const { height } = honest[0];
  const rejectedBy = async (data: Uint8Array) => {
    const before = network.counts.rejected;
    await stranger.gossip.publish('evidence', data);
    await world.run(6);
    return network.counts.rejected - before;
  };
  const good = proof(4, height);
  assert.is(await rejectedBy(new Uint8Array([1, 2, 3])), 3, 'malformed');
  assert.is(await rejectedBy(encodeEvidence({ ...good, power: 11n })), 3, 'another power');
  assert.is(await rejectedBy(encodeEvidence({ ...good, first: good.second, second: good.first })), 3, 'order');
  assert.is(await rejectedBy(encodeEvidence({ ...good, second: good.first })), 3, 'no contradiction');
  const forged = { ...good, second: { ...good.second, signature: good.first.signature } };
  assert.is(await rejectedBy(encodeEvidence(forged)), 3, 'a signature of another vote');
  assert.is(await rejectedBy(encodeEvidence(proof(4, height + 1000))), 0, 'early');
  assert.is(committed(honest[0]).length, 0);
  assert.is(await rejectedBy(encodeEvidence(good)), 0);
  assert.is(await rejectedBy(encodeEvidence(good)), 0, 'again');
  assert.ok(await world.runUntil(() => honest.every((node) => committed(node).length === 1), 10_000));
  assert.is(await rejectedBy(encodeEvidence(proof(4, height, 3))), 0, 'of one who is out');
  await world.run(3_000);
  assert.is(committed(honest[0]).length, 1);
});

test('a late vote with a forged signature accuses nobody', async () => {
  const { honest, network, world, reach } = await threeAndKey();
  const stranger = network.join('stranger' as PeerIdText);
  const height = honest[0].height + 1;
  await stranger.gossip.publish('votes', encodeVote(signed(4, { height, blockId: X })));
  assert.ok(await reach(height + 1, 10_000, honest));
  const before = network.counts.rejected;
  const other = signed(4, { height, blockId: Y });
  await stranger.gossip.publish('votes', encodeVote({ ...other, signature: new Uint8Array(64) }));
  await world.run(3_000);
  assert.is(network.counts.rejected, before + 3);
  assert.is(committed(honest[0]).length, 0);
});

// --- the pool by itself ---------------------------------------------------------------------------------------------

function poolOn(disk: SimulatedDisk, status: (evidence: EquivocationEvidence) => EvidenceStatus = () => 'new') {
  return EvidencePool.open(disk.open(), {
    application: { evidenceStatus: status, validators: () => VALIDATORS },
    logger: silentLogger,
    networkId: SIMULATED_NETWORK_ID,
    verify: verifySeal,
  });
}

const newDisk = () => new SimulatedDisk(new World(0), seededRandom(1), 0);

test('pool: what waits survives a crash, what is settled does not come back', async () => {
  const disk = newDisk();
  const settled = new Set<number>();
  const status = ({ first }: EquivocationEvidence): EvidenceStatus =>
    settled.has(first.body.height) ? 'known' : 'new';
  const pool = await poolOn(disk, status);
  for (const [index, height] of [1, 2, 3].entries()) assert.is(pool.add(proof(index + 1, height), false), 'taken');
  await new Promise((done) => setImmediate(done));
  disk.crash();
  const again = await poolOn(disk, status);
  assert.equal(
    again.pending().map(({ first }) => first.body.height),
    [1, 2, 3],
  );
  settled.add(2);
  again.settle();
  await again.close();
  disk.crash();
  settled.clear();
  const last = await poolOn(disk, status);
  assert.equal(
    last.pending().map(({ first }) => first.body.height),
    [1, 3],
  );
  // And it can still be added to.
  assert.is(last.add(proof(4, 9), false), 'taken');
  await last.close();
  assert.is((await poolOn(disk)).size, 3);
});

test('pool: what is early waits if its validators are known, and is refused otherwise', async () => {
  let status: EvidenceStatus = 'early';
  const pool = await poolOn(newDisk(), () => status);
  assert.is(pool.add(proof(1, 5), false), 'taken');
  pool.settle();
  assert.is(pool.size, 1);
  status = 'known';
  pool.settle();
  assert.is(pool.size, 0);
  status = 'early';
  const unknowing = await EvidencePool.open(newDisk().open(), {
    application: { evidenceStatus: () => status, validators: () => undefined },
    logger: silentLogger,
    networkId: SIMULATED_NETWORK_ID,
    verify: verifySeal,
  });
  assert.is(unknowing.add(proof(1, 5), true), 'early');
  // No fault of the peer that sent it.
  status = 'new';
  assert.is(unknowing.add(proof(1, 5), false), 'unprovable');
});

test('pool: a torn end of its file costs the last piece at most', async () => {
  for (let seed = 1; seed <= 20; seed++) {
    const disk = new SimulatedDisk(new World(0), seededRandom(seed), 0);
    const pool = await poolOn(disk);
    pool.add(proof(1, 1), false);
    await new Promise((done) => setImmediate(done));
    disk.onWrite = (operation) => {
      if (operation === 'sync') disk.crash();
    };
    pool.add(proof(2, 2), false);
    await new Promise((done) => setImmediate(done));
    disk.onWrite = undefined;
    const { size } = await poolOn(disk);
    assert.ok(size === 1 || size === 2, `${size} pieces with seed ${seed}`);
  }
});

test('pool: one piece about a height and offender, few about an offender, a bound on all', async () => {
  const pool = await poolOn(newDisk());
  assert.is(pool.add(proof(1, 5), false), 'taken');
  assert.is(pool.add(proof(1, 5), false), 'duplicate');
  assert.is(pool.add(proof(1, 5, 1), false), 'duplicate');
  for (let height = 6; height < 10; height++) pool.add(proof(1, height), false);
  assert.is(pool.size, MAX_PENDING_PER_OFFENDER);
  for (let index = 10; pool.size < MAX_PENDING_EVIDENCE; index++) {
    const validator = domainHash(`offender ${index}`) as unknown as Vote['validator'];
    const { first, second, ...powers } = proof(2, 1);
    pool.add({ first: { ...first, validator }, second: { ...second, validator }, ...powers }, true);
  }
  assert.is(pool.add(proof(3, 5), true), 'full');
});

test('pool: forged evidence is wrong, whatever the state machine would say of it', async () => {
  const pool = await poolOn(newDisk());
  const good = proof(1, 5);
  assert.is(pool.add({ ...good, first: { ...good.first, signature: new Uint8Array(64) } }, false), 'wrong');
  assert.is(pool.add({ ...good, totalPower: 41n }, false), 'wrong');
  assert.is(pool.size, 0);
  for (const status of ['known', 'expired'] as const)
    assert.is((await poolOn(newDisk(), () => status)).add(good, false), status);
});

test.run();
