import { copyFileSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { proposalSignBytes, type VoteBody, voteSignBytes } from '../../node/chain/block.ts';
import { domainHash } from '../../node/chain/hash.ts';
import { DoubleSignRefusedError, SignerGuard } from '../../node/consensus/signer-guard.ts';
import { diskDirectory } from '../../node/consensus/storage.ts';
import { sessionSigner, verifySession } from '../../node/identity/signatures.ts';

const NETWORK = new Uint8Array(8).fill(9);
const SESSION = sessionSigner(new Uint8Array(32).fill(1));
const X = domainHash('x');
const Y = domainHash('y');

const vote = (height: number, round: number, type: 0 | 1, voted: typeof X | null = X): VoteBody => ({
  height,
  round,
  type,
  blockId: voted ?? undefined,
});
const proposal = (height: number, round: number, blockId = X) => ({ height, round, validRound: -1, blockId });

async function inFolder(run: (folder: string, open: () => Promise<SignerGuard>) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'alice-guard-'));
  try {
    await run(folder, () => SignerGuard.open(diskDirectory(folder), NETWORK, SESSION));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function refuses(sign: () => unknown): void {
  assert.throws(sign, (error: unknown) => error instanceof DoubleSignRefusedError);
}

test('signatures are those of the session key over the domain-separated bytes', () =>
  inFolder(async (_, open) => {
    const guard = await open();
    const first = proposal(1, 0);
    assert.ok(verifySession(SESSION.sessionKey, proposalSignBytes(NETWORK, first), guard.signProposal(first)));
    const second = vote(1, 0, 0);
    assert.ok(verifySession(SESSION.sessionKey, voteSignBytes(NETWORK, second), guard.signVote(second)));
    await guard.close();
  }));

test('steps go forward only: proposal, prevote, precommit, round, height', () =>
  inFolder(async (_, open) => {
    const guard = await open();
    guard.signProposal(proposal(5, 1));
    guard.signVote(vote(5, 1, 0));
    refuses(() => guard.signProposal(proposal(5, 1)));
    guard.signVote(vote(5, 1, 1));
    refuses(() => guard.signVote(vote(5, 1, 0)));
    refuses(() => guard.signVote(vote(5, 0, 1)));
    refuses(() => guard.signVote(vote(4, 9, 1)));
    guard.signVote(vote(5, 2, 0, null));
    guard.signVote(vote(6, 0, 0));
    refuses(() => guard.signProposal(proposal(5, 3)));
    await guard.close();
  }));

test('another message for the same step is refused, the same one gets the same signature', () =>
  inFolder(async (_, open) => {
    const guard = await open();
    const signature = guard.signVote(vote(2, 0, 0, X));
    refuses(() => guard.signVote(vote(2, 0, 0, Y)));
    refuses(() => guard.signVote(vote(2, 0, 0, null)));
    assert.equal(guard.signVote(vote(2, 0, 0, X)), signature);
    await guard.close();
  }));

test('what was persisted is remembered by the next process', () =>
  inFolder(async (_, open) => {
    const first = await open();
    const signature = first.signVote(vote(2, 0, 1, X));
    await first.persist();
    await first.close();
    const second = await open();
    refuses(() => second.signVote(vote(2, 0, 1, Y)));
    refuses(() => second.signVote(vote(2, 0, 0, X)));
    assert.equal(second.signVote(vote(2, 0, 1, X)), signature);
    await second.close();
  }));

test('a copy of the folder started elsewhere cannot take back what the copy knows', () =>
  inFolder(async (folder, open) => {
    const guard = await open();
    guard.signVote(vote(2, 0, 1, X));
    await guard.persist();
    const other = mkdtempSync(join(tmpdir(), 'alice-guard-'));
    copyFileSync(join(folder, 'signer.log'), join(other, 'signer.log'));
    const copy = await SignerGuard.open(diskDirectory(other), NETWORK, SESSION);
    refuses(() => copy.signVote(vote(2, 0, 1, Y)));
    await copy.close();
    await guard.close();
    rmSync(other, { recursive: true });
  }));

test('what the write-ahead log knows and the guard lost is learnt from it', () =>
  inFolder(async (_, open) => {
    const guard = await open();
    const body = vote(3, 1, 1, X);
    guard.observe('vote', body, SESSION.sign(voteSignBytes(NETWORK, body)));
    refuses(() => guard.signVote(vote(3, 1, 1, Y)));
    guard.observe('vote', vote(2, 0, 0, Y), new Uint8Array(64));
    assert.is(guard.last?.height, 3, 'older ones change nothing');
    await guard.close();
  }));

test('the file stays small', () =>
  inFolder(async (folder, open) => {
    const guard = await open();
    for (let height = 1; height <= 1200; height++) {
      guard.signVote(vote(height, 0, 0));
      if (height % 100 === 0) await guard.persist();
    }
    assert.ok(statSync(join(folder, 'signer.log')).size < 80 * 1024);
    await guard.close();
    const again = await open();
    assert.is(again.last?.height, 1200);
    refuses(() => again.signVote(vote(1200, 0, 0, Y)));
    await again.close();
  }));

test.run();
