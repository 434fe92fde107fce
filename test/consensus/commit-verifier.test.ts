import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { AccountId } from '../../node/chain/account.ts';
import { type Commit, proposalSignBytes, voteSignBytes } from '../../node/chain/block.ts';
import type { Hash } from '../../node/chain/hash.ts';
import { domainHash } from '../../node/chain/hash.ts';
import { InvalidCommitError, verifyCommit } from '../../node/consensus/commit-verifier.ts';
import { sessionSigner } from '../../node/identity/signatures.ts';

const NETWORK = new Uint8Array(8).fill(9);
const BLOCK = domainHash('block');
const OTHER = domainHash('other');
const HEIGHT = 12;
const keys = [1, 2, 3, 4, 5].map((index) => sessionSigner(new Uint8Array(32).fill(index)));
const accounts = keys.map((_, index) => String(index + 1).repeat(64) as AccountId);
/** Four validators; the fifth key is a stranger's. */
const set = [10n, 10n, 10n, 10n].map((power, index) => ({
  account: accounts[index],
  sessionKey: keys[index].sessionKey,
  power,
}));

function signature(
  index: number,
  body: { type?: number; height?: number; round?: number; blockId?: typeof BLOCK } = {},
  network = NETWORK,
) {
  const message = voteSignBytes(network, { type: 1, height: HEIGHT, round: 3, blockId: BLOCK, ...body });
  return { validator: accounts[index], signature: keys[index].sign(message) };
}

function commit(signatures: Commit['signatures'], more: Partial<Commit> = {}): Commit {
  return { height: HEIGHT, round: 3, blockId: BLOCK, signatures, ...more };
}

function verify(candidate: Commit, validators = set): void {
  verifyCommit({ networkId: NETWORK, height: HEIGHT, blockId: BLOCK, commit: candidate, validators });
}

function refused(candidate: Commit, validators = set): void {
  assert.throws(
    () => verify(candidate, validators),
    (error: unknown) => error instanceof InvalidCommitError,
  );
}

test('three of four is enough, four too', () => {
  verify(commit([0, 1, 3].map((index) => signature(index))));
  verify(commit([0, 1, 2, 3].map((index) => signature(index))));
});

test('two of four is not, nor exactly two thirds', () => {
  refused(commit([0, 1].map((index) => signature(index))));
  refused(commit([0, 1].map((index) => signature(index))), set.slice(0, 3));
  refused(commit([]));
});

test('power counts', () => {
  const weighted = set.map((validator, index) => ({ ...validator, power: index === 0 ? 100n : 1n }));
  verify(commit([signature(0)]), weighted);
  refused(commit([1, 2, 3].map((index) => signature(index))), weighted);
});

test('another height, block or round in the commit or under the signatures', () => {
  const good = [0, 1, 2].map((index) => signature(index));
  refused(commit(good, { height: HEIGHT + 1 }));
  refused(commit(good, { blockId: OTHER }));
  refused(commit(good, { round: 2 }));
  refused(commit([0, 1, 2].map((index) => signature(index, { height: HEIGHT + 1 }))));
  refused(commit([0, 1, 2].map((index) => signature(index, { blockId: OTHER }))));
});

test('prevotes and votes of another network are no precommits', () => {
  refused(commit([0, 1, 2].map((index) => signature(index, { type: 0 }))));
  refused(commit([0, 1, 2].map((index) => signature(index, {}, new Uint8Array(8)))));
});

test('one wrong signature spoils it, also above the quorum', () => {
  const good = [0, 1, 2, 3].map((index) => signature(index));
  refused(commit([...good.slice(0, 3), { validator: accounts[3], signature: new Uint8Array(64) }]));
  refused(commit([...good.slice(0, 3), { validator: accounts[3], signature: good[0].signature }]));
});

test('strangers, repetitions, disorder', () => {
  const good = [0, 1, 2].map((index) => signature(index));
  refused(commit([...good, signature(4)]));
  refused(commit([good[0], good[0], good[1]]));
  refused(commit([good[1], good[0], good[2]]));
  refused(commit([good[0], good[1], good[1], good[2]]));
});

test('what is signed for one purpose is good for no other', () => {
  const networkId = new Uint8Array(8).fill(1);
  const blockId = '11'.repeat(32) as Hash;
  const vote = voteSignBytes(networkId, { type: 0, height: 1, round: 0, blockId });
  const proposal = proposalSignBytes(networkId, { height: 1, round: 0, validRound: -1, blockId });
  assert.ok(Buffer.from(vote).toString('latin1').startsWith('alice/vote/1'));
  assert.ok(Buffer.from(proposal).toString('latin1').startsWith('alice/proposal/1'));
});

test.run();
