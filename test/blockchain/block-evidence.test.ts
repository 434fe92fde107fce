/** Evidence in blocks of the real chain: what may be there, what not, and what it does. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { proveEvidence } from '../../node/blockchain/block-evidence.ts';
import { type Blockchain, blockchain } from '../../node/blockchain/blockchain.ts';
import { beaconMessage } from '../../node/chain/beacon.ts';
import { type Block, blockId, type Commit, type Vote, type VoteBody, voteSignBytes } from '../../node/chain/block.ts';
import {
  type EquivocationEvidence,
  encodeEvidence,
  equivocationEvidence,
  evidenceRoot,
  MAX_EVIDENCE_PER_BLOCK,
} from '../../node/chain/evidence.ts';
import { domainHash } from '../../node/chain/hash.ts';
import { type ValidatorSet, validatorSetHash } from '../../node/chain/validator-set.ts';
import { sessionSigner } from '../../node/identity/signatures.ts';
import { Store } from '../../node/store/store.ts';
import { testGenesis, testParameters } from '../ledger/harness.ts';
import { commitFor, openChain, PROPOSER, testSigner } from './harness.ts';

/** Validators beside the proposer, by number. */
const OTHERS = [1, 2, 3];
const session = (number: number) => sessionSigner(new Uint8Array(32).fill(200 + number));
const PARAMETERS = testParameters({ staking: { unbondingBlocks: 6 } });
const GENESIS = testGenesis(
  [
    { account: PROPOSER.account, weight: 10n, sessionKey: session(0).sessionKey },
    ...OTHERS.map((number) => ({
      account: testSigner(number).account,
      weight: 10n,
      sessionKey: session(number).sessionKey,
    })),
  ],
  PARAMETERS,
);

function vote(chain: Blockchain, number: number, height: number, value: string, more: Partial<VoteBody> = {}): Vote {
  const body: VoteBody = { type: 1, height, round: 0, blockId: domainHash(value), ...more };
  const signature = session(number).sign(voteSignBytes(chain.networkId, body));
  return { body, validator: testSigner(number).account, signature };
}

function proof(chain: Blockchain, number: number, height: number, more: Partial<VoteBody> = {}): EquivocationEvidence {
  const set = chain.validators(height) as ValidatorSet;
  return equivocationEvidence(vote(chain, number, height, 'x', more), vote(chain, number, height, 'y', more), set);
}

function propose(chain: Blockchain, evidence: readonly EquivocationEvidence[] = []): Promise<Block> {
  const beaconProof = PROPOSER.prove(beaconMessage(chain.networkId, chain.height + 1, chain.beacon));
  const timeMs = chain.lastTimeMs + 100n;
  return chain.propose({ timeMs, proposer: PROPOSER.account, beaconProof, evidence });
}

async function commit(chain: Blockchain, block: Block): Promise<void> {
  const verdict = await chain.validate(block);
  assert.ok(verdict.valid, verdict.valid ? '' : verdict.reason);
  await chain.commit(block, commitFor(block) satisfies Commit);
}

/** The block with other evidence, under a header that names it. Its state root may be wrong, but that is looked at last. */
function carrying(block: Block, evidence: readonly Uint8Array[]): Block {
  return { ...block, evidence: [...evidence], header: { ...block.header, evidenceRoot: evidenceRoot(evidence) } };
}

async function refusal(chain: Blockchain, block: Block): Promise<string> {
  const verdict = await chain.validate(block);
  assert.not(verdict.valid);
  return verdict.valid ? '' : verdict.reason;
}

const open = () => openChain(':memory:', GENESIS).chain;

test('evidence goes into one block; its offender is out two heights later, and stays out', async () => {
  const chain = open();
  const follower = open();
  const offender = testSigner(1).account;
  for (let height = 1; height <= 2; height++) {
    const block = await propose(chain);
    await commit(chain, block);
    await commit(follower, block);
  }
  const evidence = proof(chain, 1, 2);
  assert.is(chain.evidenceStatus(evidence), 'new');
  assert.is(chain.evidenceStatus(proof(chain, 1, 3)), 'early');
  // Offered twice, and with another offence of the same validator: once is enough.
  const block = await propose(chain, [evidence, evidence, proof(chain, 1, 1)]);
  assert.is(block.evidence.length, 1);
  await commit(chain, block);
  await commit(follower, block);
  assert.is(chain.evidenceStatus(evidence), 'known');
  assert.is((await propose(chain, [evidence])).evidence.length, 0);
  const isIn = (height: number) => chain.validators(height)?.some(({ account }) => account === offender);
  assert.ok(isIn(4), 'the set of H + 1 stands');
  const next = await propose(chain);
  await commit(chain, next);
  await commit(follower, next);
  assert.not(isIn(5));
  assert.is(follower.state.root, chain.state.root);
  assert.is((await chain.replay()).root, chain.state.root);
  const again = carrying(await propose(chain), [encodeEvidence(evidence)]);
  assert.match(await refusal(chain, again), /out already/);
});

test('a proposal with wrong, duplicate, expired or too much evidence is refused', async () => {
  const chain = open();
  for (let height = 1; height <= 7; height++) await commit(chain, await propose(chain));
  const block = await propose(chain);
  const good = proof(chain, 1, 7);
  const cases: [RegExp, readonly Uint8Array[]][] = [
    [/does not decode/, [new Uint8Array([1, 2, 3])]],
    [/not signed/, [encodeEvidence({ ...good, first: { ...good.first, signature: new Uint8Array(64) } })]],
    [/same block/, [encodeEvidence({ ...good, second: good.first })]],
    [/order/, [encodeEvidence({ ...good, first: good.second, second: good.first })]],
    [/stated power/, [encodeEvidence({ ...good, power: 9n })]],
    [/no validator/, [encodeEvidence({ ...good, ...stranger(chain) })]],
    [/out already/, [encodeEvidence(good), encodeEvidence(good)]],
    [/out already/, [encodeEvidence(good), encodeEvidence(proof(chain, 1, 6))]],
    [/older than/, [encodeEvidence(proof(chain, 1, 2))]],
    [/not over/, [encodeEvidence(proof(chain, 1, 8))]],
    // Too much is refused before any of it is looked at.
    [/at most/, Array.from({ length: MAX_EVIDENCE_PER_BLOCK + 1 }, () => new Uint8Array([1, 2, 3]))],
  ];
  for (const [reason, evidence] of cases) assert.match(await refusal(chain, carrying(block, evidence)), reason);
  assert.match(await refusal(chain, { ...block, evidence: [encodeEvidence(good)] }), /./, 'not what the header names');
  assert.ok((await chain.validate(block)).valid);
  // The executed result of the true block is not taken for one with other evidence.
  assert.match(await refusal(chain, { ...block, evidence: [encodeEvidence(good)] }), /./);
});

/** Votes of one who is in no set. */
function stranger(chain: Blockchain): Pick<EquivocationEvidence, 'first' | 'second'> {
  const { first, second } = proof(chain, 1, 7);
  const validator = testSigner(9).account;
  return { first: { ...first, validator }, second: { ...second, validator } };
}

test('evidence about a height whose validators are not known is never believed', async () => {
  const chain = open();
  await commit(chain, await propose(chain));
  const evidence = [proof(chain, 2, 1)];
  const forged = [{ ...evidence[0], power: 1n }];
  assert.throws(() => proveEvidence(evidence, chain.networkId, () => undefined), /nobody knows/);
  proveEvidence(evidence, chain.networkId, (height) => chain.validators(height));
  assert.throws(() => proveEvidence(forged, chain.networkId, (height) => chain.validators(height)), /stated power/);
});

test('a node that began at a snapshot judges evidence about heights before it, whoever decided them', async () => {
  const chain = open();
  for (let height = 1; height <= 3; height++) await commit(chain, await propose(chain));
  // One is thrown out, so that the sets before and after are not the same.
  await commit(chain, await propose(chain, [proof(chain, 1, 2)]));
  for (let height = 5; height <= 6; height++) await commit(chain, await propose(chain));
  const store = Store.open({ path: ':memory:', genesisHash: chain.genesisHash });
  const last = await chain.finalized(6);
  assert.ok(last);
  const sets = [chain.validators(6), chain.validators(7)] as ValidatorSet[];
  const validatorSets = new Map(sets.map((set) => [validatorSetHash(set), set]));
  store.writeSnapshot({ ...last, entries: chain.state.tree.entries(), validatorSets });
  const joined = blockchain({ genesis: GENESIS })({ store });
  assert.is(joined.height, 6);
  for (let height = 2; height <= 8; height++) assert.equal(joined.validators(height), chain.validators(height));
  // The set of height 4 has all four, that of height 6 three.
  const good = proof(chain, 2, 4);
  const block = await propose(chain, [good]);
  assert.is(block.evidence.length, 1);
  const verdict = await joined.validate(block);
  assert.ok(verdict.valid, verdict.valid ? '' : verdict.reason);
  for (const forged of [
    { ...good, totalPower: 30n },
    { ...good, second: { ...good.second, signature: new Uint8Array(64) } },
  ])
    assert.match(await refusal(joined, carrying(block, [encodeEvidence(forged)])), /evidence:/);
  // And it brings evidence to a block itself.
  assert.is(joined.evidenceStatus(good), 'new');
  assert.is((await propose(joined, [good])).evidence.length, 1);
  await joined.commit(block, commitFor(block));
  assert.is(joined.state.root, block.header.stateRoot);
  store.close();
});

test('a header names evidence, so that a block cannot lose or gain any', async () => {
  const chain = open();
  await commit(chain, await propose(chain));
  const block = await propose(chain, [proof(chain, 2, 1)]);
  assert.is(block.evidence.length, 1);
  assert.ok((await chain.validate(block)).valid);
  await refusal(chain, { ...block, evidence: [] });
  assert.is.not(blockId(block.header), blockId((await propose(chain)).header));
});

test.run();
