import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { blockchain } from '../../node/blockchain/blockchain.ts';
import { amount, UNITS_PER_ALICE } from '../../node/chain/amount.ts';
import { beaconMessage, beaconProofHash } from '../../node/chain/beacon.ts';
import { blockId, decodeBlock, encodeBlock, MAX_BLOCK_BYTES, transactionsRoot } from '../../node/chain/block.ts';
import { transfer } from '../../node/chain/calls.ts';
import { genesisHash } from '../../node/chain/genesis.ts';
import type { Hash } from '../../node/chain/hash.ts';
import type { Call } from '../../node/chain/transaction.ts';
import { validatorSetHash } from '../../node/chain/validator-set.ts';
import { InvalidBlockError } from '../../node/ledger/errors.ts';
import { InlineVerifier, type SignatureVerifier } from '../../node/signature-checks/verifier.ts';
import { Store } from '../../node/store/store.ts';
import { register, testParameters } from '../ledger/harness.ts';
import {
  advance,
  chainGenesis,
  commitFor,
  openChain,
  openFundedChain,
  PROPOSER,
  proposeNext,
  signed,
  testSigner,
} from './harness.ts';

test('what waits asks for a block, unless it is a registration: that goes into the next one', async () => {
  const { chain } = openFundedChain(new Map([[testSigner(2).account, UNITS_PER_ALICE]]));
  let called = 0;
  chain.onWork(() => {
    called += 1;
  });
  await chain.submit(signed(chain, testSigner(1), register()));
  assert.equal([called, chain.hasWork(), chain.waiting.transactions], [0, false, 1]);
  await chain.submit(signed(chain, testSigner(2), transfer(testSigner(3).account, amount(1000n))));
  assert.equal([called, chain.hasWork()], [1, true]);
  await advance(chain);
  assert.equal([chain.hasWork(), chain.waiting.transactions], [false, 0]);
  assert.ok(chain.state.miner(testSigner(1).account));
});

test('proposes, validates and commits; a second node follows to the same state', async () => {
  const { chain } = openChain();
  const { chain: follower } = openChain();
  assert.is(chain.height, 0);
  assert.not(chain.hasWork());
  await chain.submit(signed(chain, testSigner(1), register()));
  assert.is(chain.waiting.transactions, 1);
  for (let height = 1; height <= 5; height++) {
    const block = await advance(chain);
    const copy = decodeBlock(encodeBlock(block));
    assert.equal(await follower.validate(copy), { valid: true });
    assert.is(follower.height, height - 1);
    await follower.commit(copy, commitFor(copy));
    assert.is(follower.state.root, chain.state.root);
    assert.is(follower.state.root, block.header.stateRoot);
    assert.is(follower.lastBlockId, blockId(block.header));
    assert.is(follower.beacon, chain.beacon);
  }
  assert.not(chain.hasWork());
  assert.ok(follower.state.miner(testSigner(1).account));
  assert.is((await follower.finalized(3))?.block.header.height, 3);
  assert.is(await follower.finalized(6), undefined);
  assert.is(validatorSetHash(follower.validators(3)!), (await follower.finalized(3))!.block.header.validatorsHash);
  assert.is(follower.validators(6)?.length, 1);
  assert.is(validatorSetHash(follower.validators(7)!), (await follower.finalized(5))!.block.header.nextValidatorsHash);
  assert.is(follower.validators(8), undefined);
  assert.is((await chain.replay()).root, chain.state.root);
});

test('a block with any field changed is refused with a reason', async () => {
  const { chain } = openChain();
  const { chain: other } = openChain();
  await other.validate(await proposeNext(other));
  await other.submit(signed(other, testSigner(1), register()));
  const block = await proposeNext(other);
  const flip = '00'.repeat(32) as never;
  const { header } = block;
  const headers = {
    network: { ...header, network: new Uint8Array(8) },
    height: { ...header, height: 2 },
    timeMs: { ...header, timeMs: chain.lastTimeMs },
    previous: { ...header, previous: flip },
    proposer: { ...header, proposer: testSigner(3).account },
    validatorsHash: { ...header, validatorsHash: flip },
    nextValidatorsHash: { ...header, nextValidatorsHash: flip },
    transactionsRoot: { ...header, transactionsRoot: flip },
    evidenceRoot: { ...header, evidenceRoot: flip },
    stateRoot: { ...header, stateRoot: flip },
    modelRoot: { ...header, modelRoot: flip },
    trainingRound: { ...header, trainingRound: 2 },
    beacon: { ...header, beacon: flip },
    beaconProofHash: { ...header, beaconProofHash: flip },
  };
  assert.is(Object.keys(headers).length, Object.keys(header).length);
  for (const [field, changed] of Object.entries(headers)) {
    const verdict = await chain.validate({ ...block, header: changed });
    assert.not(verdict.valid, field);
  }
  const proof = new Uint8Array(block.beaconProof);
  proof[50] ^= 1;
  assert.not((await chain.validate({ ...block, beaconProof: proof })).valid, 'beacon proof');
  const ownFault = await chain.validate({
    ...block,
    beaconProof: proof,
    header: { ...header, beaconProofHash: beaconProofHash(proof) },
  });
  assert.match(ownFault.valid ? '' : ownFault.reason, /proof is not the proposer/);
  const garbage = [new Uint8Array(10)];
  const withGarbage = { ...header, transactionsRoot: transactionsRoot(garbage) };
  assert.not((await chain.validate({ ...block, header: withGarbage, transactions: garbage })).valid, 'garbage');
  const forged = new Uint8Array(block.transactions[0]);
  forged[forged.length - 5] ^= 1;
  const withForged = { ...header, transactionsRoot: transactionsRoot([forged]) };
  const verdict = await chain.validate({ ...block, header: withForged, transactions: [forged] });
  assert.not(verdict.valid);
  assert.match(verdict.valid ? '' : verdict.reason, /signature/);
  // Also once the true block is known and its result waits: other transactions or another proof are looked at anew.
  assert.ok((await chain.validate(block)).valid);
  assert.not((await chain.validate({ ...block, transactions: [] })).valid);
  assert.not((await chain.validate({ ...block, beaconProof: proof })).valid);
  assert.ok((await chain.validate(block)).valid);
  assert.is(chain.height, 0);
});

test('a block never grows over its limits, whatever waits', async () => {
  const economics = { transactionsPerAccountPerBlock: 64, baseFee: 1 };
  const signers = Array.from({ length: 5 }, (_, index) => testSigner(index + 1));
  const balances = new Map(signers.map(({ account }) => [account, 1000n]));
  const { chain } = openFundedChain(balances, testParameters({ economics }));
  // Refused, paid for all the same, and together more than one block of 1 MiB.
  const call: Call = { tag: 'voteParameters', value: { change: 'x'.repeat(4096), height: 9 } };
  for (const signer of signers)
    for (let index = 0; index < 60; index++) await chain.submit(signed(chain, signer, call));
  const block = await advance(chain);
  assert.ok(block.transactions.length >= 230 && block.transactions.length < 256, `${block.transactions.length}`);
  assert.ok(encodeBlock(block).length <= MAX_BLOCK_BYTES);
  await advance(chain);
  assert.is(chain.waiting.transactions, 0);
  for (const { account } of signers)
    assert.equal([chain.account(account).nonce, chain.account(account).balance], [60, 940n]);
});

test('the mempool is left as it was by proposing and validating', async () => {
  const { chain } = openChain();
  const id = await chain.submit(signed(chain, testSigner(1), register()));
  for (let index = 0; index < 3; index++) {
    const block = await proposeNext(chain);
    assert.is(block.transactions.length, 1);
    assert.ok((await chain.validate(block)).valid);
  }
  assert.ok(chain.isWaiting(id));
  assert.is(chain.receipt(id), undefined);
  const block = await proposeNext(chain);
  await chain.commit(block, commitFor(block));
  assert.not(chain.isWaiting(id));
  assert.is(chain.receipt(id)?.height, 1);
});

test('a block that was never validated is executed when it is committed, and refused when it is wrong', async () => {
  const { chain } = openChain();
  const { chain: other } = openChain();
  const block = await proposeNext(other);
  const wrong = { ...block, header: { ...block.header, stateRoot: '00'.repeat(32) as Hash } };
  let thrown: unknown;
  await chain.commit(wrong, commitFor(wrong)).catch((error: unknown) => {
    thrown = error;
  });
  assert.instance(thrown, InvalidBlockError);
  assert.is(chain.height, 0);
  await chain.commit(block, commitFor(block));
  assert.is(chain.height, 1);
  thrown = undefined;
  await chain.commit(block, commitFor(block)).catch((error: unknown) => {
    thrown = error;
  });
  assert.instance(thrown, InvalidBlockError);
});

test('the signatures of a block of unseen transactions are checked at once, elsewhere, and only the first time', async () => {
  const calls: string[] = [];
  const inline = new InlineVerifier();
  const verifier: SignatureVerifier = {
    verify: (checks, urgency) => {
      calls.push(`${checks.length} ${checks[0]?.kind} ${urgency}`);
      return inline.verify(checks);
    },
    close: async () => {},
  };
  const { chain: other } = openChain();
  for (let index = 0; index < 100; index++) await other.submit(signed(other, testSigner(index), register()));
  const block = await proposeNext(other);
  const genesis = chainGenesis();
  const store = Store.open({ path: ':memory:', genesisHash: genesisHash(genesis) });
  const chain = blockchain({ genesis })({ store, verifier });
  await chain.submit(block.transactions[0]!, 'gossip');
  assert.equal(calls.splice(0), ['1 signature gossip']);
  const last = Uint8Array.from(block.transactions[99]!);
  last[last.length - 5]! ^= 1;
  const transactions = block.transactions.with(99, last);
  const header = { ...block.header, transactionsRoot: transactionsRoot(transactions) };
  const forged = { ...block, header, transactions };
  const verdict = await chain.validate(forged);
  assert.match(verdict.valid ? '' : verdict.reason, /signature does not verify/);
  assert.equal(calls.splice(0), ['1 proof block', '99 signature block']);
  assert.ok((await chain.validate(block)).valid);
  assert.equal(calls.splice(0), ['1 proof block', '1 signature block']);
});

test('listeners hear of blocks after they are final; one that fails harms nobody', async () => {
  const failures: string[] = [];
  const { chain } = openChain(':memory:', chainGenesis(), undefined, { error: (_, message) => failures.push(message) });
  const heard: number[] = [];
  chain.onBlock(() => {
    throw new Error('listener');
  });
  const stop = chain.onBlock(({ height, state, receipts, events }) => {
    assert.is(chain.height, height);
    assert.is(state, chain.state);
    heard.push(height, receipts.length, events.length);
  });
  await chain.submit(signed(chain, testSigner(1), register()));
  await advance(chain);
  assert.equal(heard, [1, 1, 1]);
  assert.is(failures.length, 1);
  stop();
  await advance(chain);
  assert.is(heard.length, 3);
});

test('a proposer cannot give a proof that is not its own', async () => {
  const { chain } = openChain();
  const message = beaconMessage(chain.networkId, 1, chain.beacon);
  const refusals = [
    { proposer: PROPOSER.account, beaconProof: testSigner(1).prove(message) },
    { proposer: PROPOSER.account, beaconProof: PROPOSER.prove(beaconMessage(chain.networkId, 2, chain.beacon)) },
    { proposer: PROPOSER.account, beaconProof: new Uint8Array(96) },
    { proposer: PROPOSER.account, beaconProof: new Uint8Array(0) },
  ];
  for (const input of refusals) {
    let thrown: unknown;
    await chain.propose({ timeMs: chain.lastTimeMs + 1n, ...input }).catch((error: unknown) => {
      thrown = error;
    });
    assert.instance(thrown, InvalidBlockError);
  }
});

test.run();
