/** Money and stakes through the whole chain: from the first mint to a validator that joins, with real keys. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { amount, UNITS_PER_ALICE } from '../../node/chain/amount.ts';
import { beaconMessage } from '../../node/chain/beacon.ts';
import { bond, certifySessionKey, registerMiner, transfer } from '../../node/chain/calls.ts';
import { InvalidGenesisError, sessionCertificateBytes } from '../../node/chain/genesis.ts';
import type { Hash } from '../../node/chain/hash.ts';
import { parseHash } from '../../node/chain/hash.ts';
import { sessionProofBytes } from '../../node/chain/session-signature.ts';
import { type Call, scoresCommitment, submissionCommitment, taskNonce } from '../../node/chain/transaction.ts';
import { validatorSetHash } from '../../node/chain/validator-set.ts';
import { checkGenesisCertificates } from '../../node/identity/genesis-certificates.ts';
import { type AccountSigner, sessionSigner } from '../../node/identity/signatures.ts';
import { TransactionRefusedError } from '../../node/mempool/errors.ts';
import { namedCid, namedHash, PROVIDER, SALT, scored, testParameters } from '../ledger/harness.ts';
import { advance, chainGenesis, commitFor, openChain, PROPOSER, signed, testSigner } from './harness.ts';

type Chain = ReturnType<typeof openChain>['chain'];

async function send(chain: Chain, signer: AccountSigner, call: Call, afterMs = 100): Promise<string | undefined> {
  const id = await chain.submit(signed(chain, signer, call));
  await advance(chain, afterMs);
  return chain.receipt(id)?.error;
}

/** Plays one round in which the only validator mines, so that an epoch settles and it is paid. */
async function mintSomething(chain: Chain): Promise<void> {
  const me = PROPOSER.account;
  const cid = namedCid('blob');
  await send(chain, PROPOSER, registerMiner('device'));
  await advance(chain, 2500);
  const { round, attempt, beacon, modelRoot } = chain.state.round;
  const seat = { account: me, slot: 0 };
  const commitment = submissionCommitment({ cid, seat, nonce: taskNonce(beacon, seat), modelRoot, salt: SALT });
  const scores = [{ miner: me, slot: 0, verdict: scored(10) }];
  const sheet = { heldOutLoss: 5n, salt: SALT, scores };
  const calls: Call[] = [
    { tag: 'commitSubmission', value: { round, attempt, slot: 0, commitment } },
    { tag: 'revealSubmission', value: { round, slot: 0, cid, sizeBytes: 1000, salt: SALT, provider: PROVIDER } },
    { tag: 'commitScores', value: { round, commitment: scoresCommitment({ round, validator: me, ...sheet }) } },
    { tag: 'revealScores', value: { round, ...sheet } },
    { tag: 'attestModel', value: { round, modelRoot: namedHash('new weights'), checkpoint: '' } },
  ];
  for (const call of calls) assert.is(await send(chain, PROPOSER, call, 120_000), undefined, call.tag);
}

test('from the first mint to a second validator: headers name each set two blocks ahead', async () => {
  const economics = { epochMs: 1, baseFee: 1000, feePerByte: 10, existentialDeposit: 1000 };
  const genesis = chainGenesis(testParameters({ economics, rounds: { trainDeadlineMs: 1_000_000 } }));
  const { chain } = openChain(':memory:', genesis);
  const joiner = testSigner(1);
  await mintSomething(chain);
  assert.ok(chain.account(PROPOSER.account).balance > 10n * UNITS_PER_ALICE);
  // There is money now, and the joiner has none of it.
  const refused = await chain.submit(signed(chain, joiner, bond(amount(UNITS_PER_ALICE)))).catch((error) => error);
  assert.ok(refused instanceof TransactionRefusedError && refused.code === 'ERR_CANNOT_PAY_FEE');
  assert.is(await send(chain, PROPOSER, transfer(joiner.account, amount(8n * UNITS_PER_ALICE))), undefined);
  assert.is(await send(chain, joiner, bond(amount(5n * UNITS_PER_ALICE))), undefined);
  const { sessionKey, sign } = sessionSigner(new Uint8Array(32).fill(77));
  const proof = sign(sessionProofBytes(chain.networkId, joiner.account, sessionKey));
  assert.is(await send(chain, joiner, certifySessionKey(sessionKey, proof)), undefined);

  const certified = chain.height;
  const propose = (signer: AccountSigner) => {
    const message = beaconMessage(chain.networkId, chain.height + 1, chain.beacon);
    const beaconProof = signer.prove(message);
    return chain.propose({ timeMs: chain.lastTimeMs + 100n, proposer: signer.account, beaconProof });
  };
  assert.is(chain.validators(certified + 1)?.length, 1);
  // Judged by another node: this one believes what it has just built itself.
  const { chain: follower } = openChain(':memory:', genesis);
  for (let height = 1; height <= certified; height++) {
    const { block, commit } = (await chain.finalized(height))!;
    await follower.commit(block, commit);
  }
  assert.not((await follower.validate(await propose(joiner))).valid);
  await advance(chain);
  assert.equal(
    chain.validators(certified + 2)?.find(({ account }) => account === joiner.account),
    {
      account: joiner.account,
      sessionKey,
      power: 5n,
    },
  );
  const block = await propose(joiner);
  assert.equal(await chain.validate(block), { valid: true });
  await chain.commit(block, commitFor(block));

  for (let height = 1; height <= chain.height; height++) {
    const { header } = (await chain.finalized(height))!.block;
    assert.is(validatorSetHash(chain.validators(height)!), header.validatorsHash);
    const next = (await chain.finalized(height + 1))?.block.header;
    if (next !== undefined) assert.is(next.validatorsHash, header.nextValidatorsHash);
  }
  const sizes = [certified, certified + 1, certified + 2].map((height) => chain.validators(height)?.length);
  assert.equal(sizes, [1, 1, 2]);
  assert.is((await chain.replay()).root, chain.state.root);
  assert.is(chain.state.totalHoldings, chain.state.supply.totalIssuance);
  assert.ok(chain.state.supply.burned > 0n);
});

test('a proposer leaves out what its signer can no longer pay, and the pool forgets it', async () => {
  const economics = { epochMs: 1, baseFee: 1000, feePerByte: 0, existentialDeposit: 0 };
  const genesis = chainGenesis(testParameters({ economics, rounds: { trainDeadlineMs: 1_000_000 } }));
  const { chain } = openChain(':memory:', genesis);
  const poor = testSigner(2);
  await mintSomething(chain);
  assert.is(await send(chain, PROPOSER, transfer(poor.account, amount(2500n))), undefined);
  const ids: Hash[] = [];
  for (let index = 0; index < 2; index++)
    ids.push(await chain.submit(signed(chain, poor, transfer(PROPOSER.account, amount(1000n)))));
  const block = await advance(chain);
  assert.is(block.transactions.length, 1);
  assert.is(chain.receipt(ids[0]!)?.error, undefined);
  assert.not(chain.isWaiting(ids[1]!));
  assert.is(chain.account(poor.account).balance, 500n);
});

test('a genesis whose founders did not certify their keys is refused', () => {
  const genesis = chainGenesis();
  assert.throws(
    () => checkGenesisCertificates(genesis),
    (error: unknown) => error instanceof InvalidGenesisError,
  );
  const [validator] = genesis.validators;
  const message = sessionCertificateBytes(PROPOSER.account, parseHash(validator.sessionKey));
  const certificate = Buffer.from(PROPOSER.sign(message)).toString('hex');
  checkGenesisCertificates({ ...genesis, validators: [{ ...validator, certificate }] });
});

test.run();
