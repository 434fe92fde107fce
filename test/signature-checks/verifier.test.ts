import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import * as library from '@polkadot/util-crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  proveSr25519,
  signSr25519,
  sr25519Pair,
  sr25519Ready,
  verifySr25519,
  verifyVrf,
} from '../../node/identity/sr25519.ts';
import { ThreadedVerifier } from '../../node/signature-checks/threaded-verifier.ts';
import { InlineVerifier, type SignatureCheck, VerifierBusyError } from '../../node/signature-checks/verifier.ts';

await sr25519Ready();

const SILENT = { warn: () => {} };
const pair = (number: number) => sr25519Pair(new Uint8Array(32).fill(number));

/** Checks of which every third is forged, and what is true of them. */
function sample(count: number): { checks: SignatureCheck[]; truth: boolean[] } {
  const truth: boolean[] = [];
  const checks = Array.from({ length: count }, (_, index): SignatureCheck => {
    const keys = pair((index % 20) + 1);
    const message = Buffer.from(`message ${index}`);
    const kind = index % 5 === 4 ? 'proof' : 'signature';
    const signature = kind === 'proof' ? proveSr25519(keys, message) : signSr25519(keys, message);
    const valid = index % 3 !== 2;
    truth.push(valid);
    if (!valid) signature[index % signature.length]! ^= 4;
    // In the middle of a larger array, as what the network delivers is, and second of two where two are asked about.
    const frame = Buffer.concat([Buffer.alloc(9000), message]);
    const messages = index % 2 === 0 ? [frame.subarray(9000)] : [Buffer.from('another'), frame.subarray(9000)];
    return { kind, publicKey: keys.publicKey, messages, signature };
  });
  return { checks, truth };
}

test('the thread says what this thread says, in order, from overlapping calls of all urgencies', async () => {
  const verifier = new ThreadedVerifier(SILENT);
  const samples = [sample(50), sample(1), sample(0), sample(23), sample(8)];
  const inline = new InlineVerifier();
  for (const { checks, truth } of samples) assert.equal(await inline.verify(checks), truth);
  const urgencies = ['gossip', 'block', 'own', 'block', 'gossip'] as const;
  const results = await Promise.all(
    samples.map(({ checks }, index) => verifier.verify(checks, urgencies[index] ?? 'own')),
  );
  assert.equal(
    results,
    samples.map(({ truth }) => truth),
  );
  await verifier.close();
});

test('blocks do not wait behind what peers send', async () => {
  const verifier = new ThreadedVerifier(SILENT);
  const order: string[] = [];
  const { checks } = sample(200);
  await Promise.all([
    verifier.verify(checks, 'gossip').then(() => order.push('gossip')),
    verifier.verify(checks.slice(0, 100), 'own').then(() => order.push('own')),
    verifier.verify(checks.slice(0, 100), 'block').then(() => order.push('block')),
  ]);
  assert.equal(order, ['block', 'own', 'gossip']);
  await verifier.close();
});

test('what waits is bounded, for each urgency by itself', async () => {
  const verifier = new ThreadedVerifier(SILENT);
  const { checks } = sample(64);
  const outcomes = await Promise.allSettled(Array.from({ length: 40 }, () => verifier.verify(checks, 'gossip')));
  const refused = outcomes.filter((outcome) => outcome.status === 'rejected');
  assert.ok(refused.length >= 20 && refused.length <= 25, `${refused.length} refused`);
  for (const outcome of refused) assert.instance(outcome.reason, VerifierBusyError);
  assert.is((await verifier.verify(checks, 'block')).length, 64);
  await verifier.close();
});

for (const by of ['exit', 'throw'] as const)
  for (const crashes of [1, 2, 100]) {
    test(`a thread that ends ${crashes} times by ${by} loses no check and lets none pass`, async () => {
      const folder = mkdtempSync(join(tmpdir(), 'alice-verifier-'));
      const counter = join(folder, 'crashes');
      writeFileSync(counter, '0');
      let started = 0;
      const warnings: unknown[] = [];
      const verifier = new ThreadedVerifier({ warn: (fields) => warnings.push(fields) }, () => {
        started += 1;
        return new Worker(new URL('./failing-worker.ts', import.meta.url), { workerData: { counter, crashes, by } });
      });
      const { checks, truth } = sample(40);
      const [first, second] = await Promise.all([verifier.verify(checks, 'gossip'), verifier.verify(checks, 'block')]);
      assert.equal(first, truth);
      assert.equal(second, truth);
      const expected = Math.min(crashes, 3);
      assert.is(Number(readFileSync(counter, 'utf8')), expected);
      assert.is(warnings.length, expected);
      assert.is(started, crashes < 3 ? crashes + 1 : 3);
      await verifier.close();
      rmSync(folder, { recursive: true });
    });
  }

test('a thread that cannot be started is done without', async () => {
  const verifier = new ThreadedVerifier(SILENT, () => {
    throw new Error('no threads here');
  });
  const { checks, truth } = sample(30);
  assert.equal(await verifier.verify(checks, 'gossip'), truth);
  await verifier.close();
});

test('closing rejects what waits and what comes later', async () => {
  const verifier = new ThreadedVerifier(SILENT);
  const { checks } = sample(100);
  const codes = Promise.allSettled([verifier.verify(checks, 'gossip'), verifier.verify(checks, 'block')]);
  await verifier.close();
  for (const outcome of await codes)
    assert.is(outcome.status === 'rejected' && outcome.reason.code, 'ERR_VERIFIER_CLOSED');
  const late = await verifier.verify(checks, 'own').catch((error) => error.code);
  assert.is(late, 'ERR_VERIFIER_CLOSED');
});

test('the library and the one in JavaScript make and accept the same keys, signatures and proofs', () => {
  for (let index = 0; index < 30; index++) {
    const seed = createHash('sha256').update(`seed ${index}`).digest();
    const keys = sr25519Pair(seed);
    assert.equal(keys, library.sr25519PairFromSeed(seed));
    const { publicKey } = keys;
    const message = createHash('shake256', { outputLength: index * 37 })
      .update('message')
      .digest();
    const nothing = new Uint8Array(0);
    assert.ok(verifySr25519(publicKey, message, library.sr25519Sign(message, keys)));
    assert.ok(library.sr25519Verify(message, signSr25519(keys, message), publicKey));
    const proof = proveSr25519(keys, message);
    const theirs = library.sr25519VrfSign(message, keys, nothing, nothing);
    assert.equal(proof.slice(0, 32), theirs.slice(0, 32), 'equal outputs: the beacon is the same');
    assert.ok(verifyVrf(publicKey, message, theirs));
    assert.ok(library.sr25519VrfVerify(message, proof, publicKey, nothing, nothing));
  }
});

test('the key for which anyone can sign signs nothing', () => {
  const message = Buffer.from('anything');
  // R = 0 and s = 0, with schnorrkel's mark: right for the neutral element.
  const signature = new Uint8Array(64);
  signature[63] = 0x80;
  assert.not(verifySr25519(new Uint8Array(32), message, signature));
  assert.not(verifyVrf(new Uint8Array(32), message, new Uint8Array(96)));
});

test('bytes that are no key, no signature, no proof do not verify', () => {
  const message = new Uint8Array(3);
  const keys = pair(1);
  const signature = signSr25519(keys, message);
  assert.ok(verifySr25519(keys.publicKey, message, signature));
  for (const length of [0, 31, 33, 63, 64, 65, 96, 200])
    for (const byte of [0, 1, 0x7f, 0x80, 0xff]) {
      const bytes = new Uint8Array(length).fill(byte);
      assert.not(verifySr25519(bytes, message, signature), `key ${length} ${byte}`);
      assert.not(verifySr25519(keys.publicKey, message, bytes), `signature ${length} ${byte}`);
      assert.not(verifyVrf(keys.publicKey, message, bytes), `proof ${length} ${byte}`);
      assert.not(verifyVrf(bytes, message, proveSr25519(keys, message)), `proof's key ${length} ${byte}`);
    }
});

test.run();
