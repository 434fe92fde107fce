/** Who decides changes: a change in block H acts at H + 2, in every part of consensus, through crashes and late joins. */

import { Bytes, Struct, u32, Vector } from 'scale-ts';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Block, blockId, type Commit, encodeBlock, encodeCommit, voteSignBytes } from '../../node/chain/block.ts';
import { type ValidatorSet, validatorSetHash } from '../../node/chain/validator-set.ts';
import { answerBlockSync, BLOCK_SYNC_LIMITS, BLOCK_SYNC_PROTOCOL } from '../../node/consensus/block-sync.ts';
import { CATCH_UP_LIMITS, CATCH_UP_PROTOCOL } from '../../node/consensus/catch-up.ts';
import { verifyCommit } from '../../node/consensus/commit-verifier.ts';
import { PROPOSER_ANCHOR_INTERVAL } from '../../node/consensus/core/proposer.ts';
import { ProposerSchedule } from '../../node/consensus/proposer-schedule.ts';
import type { PeerIdText } from '../../node/network/interface.ts';
import { type Chain, powerChange, SimulatedApplication } from '../simulation/application.ts';
import {
  SIMULATED_NETWORK_ID,
  type SimulatedNode,
  simulatedSigner,
  simulatedValidators,
  verifySeal,
} from '../simulation/node.ts';
import { type Random, seededRandom } from '../simulation/random.ts';
import { chainsAgree, startAll, type TestNetwork, testNetwork } from './network.ts';

const account = (index: number) => simulatedSigner(index).account.account;

/** Seven keys; those beyond `founders` wait outside. `change` says what the proposer of a height puts into its block. */
function changingNetwork(founders: number, change: (height: number) => Uint8Array[], seed = 1): TestNetwork {
  const everyone = simulatedValidators(Array.from({ length: 7 }, (_, index) => (index < founders ? 10n : 0n)));
  return testNetwork({
    powers: everyone.map(({ power }) => power),
    observers: 1,
    seed,
    validatorsAt: () => everyone,
    node: () => ({ transactions: change }),
  });
}

/** A change in about half of the blocks; at least four stay, so that one of them may be away. */
function randomChanges(random: Random): (height: number) => Uint8Array[] {
  return () => {
    if (random.chance(0.5)) return [];
    const index = 1 + random.below(7);
    return [powerChange(account(index), index > 4 && random.chance(0.4) ? 0n : BigInt(8 + random.below(5)))];
  };
}

function setAt(node: SimulatedNode, height: number): ValidatorSet {
  const set = node.application?.validators(height);
  assert.ok(set, `the set of height ${height}`);
  return set;
}

/** Headers name the sets, commits are by the set of their height, proposers are in it and come by the wheel. */
function checkChain(node: SimulatedNode): void {
  const { blocks } = node.chain;
  const schedule = new ProposerSchedule({ validators: (height) => node.application?.validators(height) });
  for (const [index, { block, commit }] of blocks.entries()) {
    const { header } = block;
    const height = index + 1;
    const validators = setAt(node, height);
    assert.is(header.validatorsHash, validatorSetHash(validators));
    if (index > 0) assert.is(blocks[index - 1].block.header.nextValidatorsHash, header.validatorsHash, `at ${height}`);
    const id = blockId(header);
    verifyCommit({ networkId: SIMULATED_NETWORK_ID, height, blockId: id, commit, validators, verify: verifySeal });
    assert.ok(validators.some((member) => member.account === header.proposer));
    assert.equal(schedule.at(height)?.validators, validators);
  }
}

test('a change in block H acts at H + 2: join, more power, leave', async () => {
  const changes = new Map([
    [5, powerChange(account(5), 10n)],
    [9, powerChange(account(2), 25n)],
    [13, powerChange(account(1), 0n)],
  ]);
  const { nodes, reach, doubleSigned } = changingNetwork(4, (height) => {
    const change = changes.get(height);
    return change === undefined ? [] : [change];
  });
  startAll(nodes);
  assert.ok(await reach(60, 60_000));
  const [node] = nodes;
  const power = (index: number, height: number) =>
    setAt(node, height).find((member) => member.account === account(index))?.power ?? 0n;
  assert.equal([power(5, 6), power(5, 7)], [0n, 10n]);
  assert.equal([power(2, 10), power(2, 11)], [10n, 25n]);
  assert.equal([power(1, 14), power(1, 15)], [10n, 0n]);
  for (const one of nodes) checkChain(one);
  const late = node.chain.blocks.slice(14);
  const turns = (index: number) => late.filter(({ block }) => block.header.proposer === account(index)).length;
  assert.is(turns(1), 0);
  assert.ok(turns(5) > 0, 'the newcomer proposes');
  // 25 of 55: of 46 blocks about 21.
  assert.ok(turns(2) > 17 && turns(2) < 25, `${turns(2)} turns with 25 of 55`);
  assert.ok(
    late.some(({ commit }) => commit.signatures.some(({ validator }) => validator === account(5))),
    'and votes',
  );
  assert.not(late.some(({ commit }) => commit.signatures.some(({ validator }) => validator === account(1))));
  assert.not(nodes[0].service?.status.voting, 'who left follows');
  assert.ok(nodes[4].service?.status.voting);
  assert.equal(doubleSigned(), []);
  assert.ok(chainsAgree(nodes));
});

test('random changes in every other block, past an anchor; a late observer and a late validator catch up', async () => {
  const random = seededRandom(11);
  const { nodes, reach, doubleSigned } = changingNetwork(4, randomChanges(random));
  const observer = nodes[7];
  // The seventh key is elected while nobody holds it, now and then; 6 others are always a quorum.
  const late = nodes[6];
  const early = nodes.slice(0, 6);
  startAll(early);
  const height = PROPOSER_ANCHOR_INTERVAL + 40;
  assert.ok(await reach(height, 600_000, early));
  const sets = new Set(early[0].chain.blocks.map(({ block }) => block.header.validatorsHash));
  assert.ok(sets.size > 80, `${sets.size} different sets`);
  startAll([observer, late]);
  assert.ok(await reach(height, 60_000));
  for (const one of nodes) checkChain(one);
  // A node that starts anew computes the wheel from the anchor: it has to stand where the others have it.
  assert.ok(await reach(Math.max(...nodes.map((node) => node.height)) + 20, 60_000));
  assert.ok(chainsAgree(nodes));
  const signers = new Set(
    nodes[0].chain.blocks.slice(height).flatMap(({ commit }) => commit.signatures.map(({ validator }) => validator)),
  );
  const everIn = nodes[0].chain.blocks
    .slice(height + 2)
    .some((_, index) => setAt(nodes[0], height + 2 + index).some((member) => member.account === account(7)));
  assert.ok(!everIn || signers.has(account(7)), 'the late validator votes where it is in the set');
  assert.equal(doubleSigned(), []);
});

test('crashes of all, at any moment, between a change and its effect', async () => {
  for (let seed = 1; seed <= 12; seed++) {
    const { nodes, reach, world, doubleSigned } = changingNetwork(4, randomChanges(seededRandom(seed)), seed);
    startAll(nodes);
    assert.ok(await reach(4, 30_000));
    for (let crash = 0; crash < 3; crash++) {
      await world.run(10 + seed * 13);
      for (const node of nodes) node.crash();
      startAll(nodes);
      assert.ok(await reach(Math.max(...nodes.map(({ height }) => height)) + 4, 60_000), `seed ${seed}`);
    }
    for (const node of nodes) checkChain(node);
    assert.ok(chainsAgree(nodes), `seed ${seed}`);
    assert.equal(doubleSigned(), [], `seed ${seed}`);
    for (const node of nodes) node.crash();
  }
});

test('a log from before a change is replayed with the set of its own height', async () => {
  // The set changes at every height: a replay with any other set would count other powers.
  for (let seed = 1; seed <= 10; seed++) {
    let turn = 0;
    const { nodes, reach, world, doubleSigned } = changingNetwork(
      4,
      () => [powerChange(account(1 + (turn++ % 4)), BigInt(9 + (turn % 3)))],
      seed,
    );
    startAll(nodes);
    assert.ok(await reach(6, 30_000));
    const victim = nodes[seed % 4];
    await world.run(seed * 3);
    victim.crash();
    void victim.start();
    assert.ok(await reach(victim.height + 6, 30_000));
    for (const node of nodes) checkChain(node);
    assert.equal(doubleSigned(), [], `seed ${seed}`);
    for (const node of nodes) node.crash();
  }
});

const requestCodec = Struct({ fromHeight: u32 });
const statusCodec = Struct({ finalizedHeight: u32, proposals: Vector(Bytes()), votes: Vector(Bytes()) });
const responseCodec = Vector(Struct({ block: Bytes(), commit: Bytes() }));

test('those who left cannot give a late joiner another history', async () => {
  // All four founders hand over to three others between block 5 and block 8.
  const { nodes, network, reach } = changingNetwork(4, (height) => {
    if (height === 5) return [5, 6, 7].map((index) => powerChange(account(index), 100n));
    return height === 8 ? [1, 2, 3, 4].map((index) => powerChange(account(index), 0n)) : [];
  });
  const late = nodes[7];
  const early = nodes.slice(0, 7);
  startAll(early);
  assert.ok(await reach(20, 60_000, early));
  assert.is(setAt(early[0], 10).length, 3);

  /** From block 12 on, a history that the four founders signed with their old keys. */
  const forged: Chain = { blocks: early[0].chain.blocks.slice(0, 11) };
  const everyone = simulatedValidators([10n, 10n, 10n, 10n, 0n, 0n, 0n]);
  const application = new SimulatedApplication({
    chain: forged,
    networkId: SIMULATED_NETWORK_ID,
    genesisTimeMs: 0n,
    validatorsAt: () => everyone,
    verify: verifySeal,
    transactions: () => [Buffer.from('another history')],
    hasWork: () => true,
  });
  for (let height = 12; height <= 30; height++) {
    const proposer = simulatedSigner(1).account;
    const block: Block = await application.propose({
      timeMs: application.lastTimeMs + 1n,
      proposer: proposer.account,
      beaconProof: proposer.prove(new Uint8Array(1)),
      evidence: [],
    });
    const id = blockId(block.header);
    const message = voteSignBytes(SIMULATED_NETWORK_ID, { type: 1, height, round: 0, blockId: id });
    const signatures = [1, 2, 3, 4].map((index) => {
      const { session } = simulatedSigner(index);
      return { validator: account(index), signature: session.sign(message) };
    });
    const commit: Commit = { height, round: 0, blockId: id, signatures };
    await application.commit(block, commit);
  }
  const liar = network.join('liar' as PeerIdText);
  let asked = 0;
  await liar.requests.handle(CATCH_UP_PROTOCOL, CATCH_UP_LIMITS, async () =>
    statusCodec.enc({ finalizedHeight: 30, proposals: [], votes: [] }),
  );
  await liar.requests.handle(BLOCK_SYNC_PROTOCOL, BLOCK_SYNC_LIMITS, async (request) => {
    asked += 1;
    const { fromHeight } = requestCodec.dec(request);
    if (fromHeight <= 11) return answerBlockSync(application, request);
    return responseCodec.enc(
      forged.blocks.slice(fromHeight - 1).map(({ block, commit }) => ({
        block: encodeBlock(block),
        commit: encodeCommit(commit),
      })),
    );
  });
  // Alone with the liar at first.
  network.partition(new Map(early.map(({ peer }) => [peer, 1])));
  void late.start();
  assert.not(await reach(12, 30_000, [late]));
  assert.ok(asked > 0);
  assert.is(late.height, 11, 'the common past is believed, the forged rest is not');
  network.partition(new Map());
  assert.ok(await reach(20, 60_000));
  assert.ok(chainsAgree(nodes));
});

test.run();
