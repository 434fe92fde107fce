import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { sessionCertificateBytes } from '../../node/chain/genesis.ts';
import { sessionProofBytes } from '../../node/chain/session-signature.ts';
import {
  KeyDamagedError,
  KeyExistsError,
  KeyPermissionsError,
  KeystorePasswordError,
  KeyUnavailableError,
} from '../../node/identity/errors.ts';
import { createIdentity, loadIdentity, loadOrCreateIdentity } from '../../node/identity/identity.ts';
import { exportKeystore } from '../../node/identity/keystore.ts';
import { signaturesReady, verifyAccount, verifySession } from '../../node/identity/signatures.ts';

const test = suite<{ folder: string; keys: string }>('identity');
test.before(signaturesReady);
test.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'alice-identity-'));
  context.keys = join(context.folder, 'node', 'keys');
});
test.after.each(({ folder }) => rmSync(folder, { recursive: true, force: true }));

async function rejection(promise: Promise<unknown>): Promise<Error> {
  try {
    await promise;
  } catch (error) {
    return error as Error;
  }
  throw new Error('did not reject');
}

test('made once, for the owner only, and the same ever after', async ({ keys }) => {
  const first = await loadOrCreateIdentity(keys);
  const second = await loadOrCreateIdentity(keys);
  const third = await loadIdentity(keys);
  for (const again of [second, third]) {
    assert.is(again.account, first.account);
    assert.is(again.sessionKey, first.sessionKey);
    assert.equal(again.peerSeed(), first.peerSeed());
  }
  assert.match(first.address, /^a/);
  assert.equal(readdirSync(keys).sort(), ['account.seed', 'peer.seed', 'session.seed']);
  for (const name of readdirSync(keys)) assert.is(statSync(join(keys, name)).mode & 0o777, 0o600);
  assert.is(statSync(keys).mode & 0o777, 0o700);
  assert.equal(readdirSync(join(keys, '..')), ['keys']);
  const message = Buffer.from('message');
  const network = new Uint8Array(8).fill(1);
  assert.ok(verifyAccount(first.account, message, third.signer.sign(message)));
  assert.ok(verifySession(first.sessionKey, message, third.session.sign(message)));
  assert.ok(
    verifySession(
      first.sessionKey,
      sessionProofBytes(network, first.account, first.sessionKey),
      first.sessionProof(network),
    ),
  );
  assert.ok(
    verifyAccount(first.account, sessionCertificateBytes(first.account, first.sessionKey), first.certificate()),
  );
});

test('two new nodes have nothing in common', async ({ folder }) => {
  const [a, b] = await Promise.all(['a', 'b'].map((name) => loadOrCreateIdentity(join(folder, name))));
  const seeds = ['a', 'b'].flatMap((name) =>
    readdirSync(join(folder, name)).map((file) => readFileSync(join(folder, name, file), 'utf8')),
  );
  assert.is(new Set(seeds).size, 6);
  assert.not.equal(a.account, b.account);
});

test('several at once agree on one set of keys', async ({ keys }) => {
  const identities = await Promise.all(Array.from({ length: 6 }, () => loadOrCreateIdentity(keys)));
  assert.is(new Set(identities.map(({ account }) => account)).size, 1);
  assert.is(new Set(identities.map(({ sessionKey }) => sessionKey)).size, 1);
  assert.equal(readdirSync(join(keys, '..')), ['keys']);
});

test('an empty folder made by hand is filled', async ({ keys }) => {
  mkdirSync(keys, { recursive: true });
  assert.ok((await loadOrCreateIdentity(keys)).account);
});

test('a damaged or missing key is an error that names the file, and nothing is replaced', async ({ keys }) => {
  await loadOrCreateIdentity(keys);
  for (const name of ['account.seed', 'session.seed', 'peer.seed']) {
    const path = join(keys, name);
    const original = readFileSync(path, 'utf8');
    for (const damage of [
      '',
      'zz',
      original.slice(0, 40),
      `${original.trim()}00`,
      original.toUpperCase().replace(/\d/g, 'G'),
    ]) {
      writeFileSync(path, damage);
      const error = await rejection(loadOrCreateIdentity(keys));
      assert.instance(error, KeyDamagedError);
      assert.match(error.message, name);
      assert.not.match(error.message, /\n/);
      if (damage.length > 8) assert.not.ok(error.message.includes(damage.trim()));
      assert.is(readFileSync(path, 'utf8'), damage);
    }
    rmSync(path);
    assert.instance(await rejection(loadOrCreateIdentity(keys)), KeyDamagedError);
    assert.not.ok(existsSync(path));
    writeFileSync(path, original, { mode: 0o600 });
  }
  assert.ok(await loadIdentity(keys));
});

test('a key that others may read is refused', async ({ keys }) => {
  await loadOrCreateIdentity(keys);
  for (const mode of [0o644, 0o640, 0o602]) {
    chmodSync(join(keys, 'session.seed'), mode);
    const error = await rejection(loadIdentity(keys));
    assert.instance(error, KeyPermissionsError);
    assert.match(error.message, /chmod 600/);
  }
});

test('a folder that cannot be made is an error of its own', async ({ folder }) => {
  writeFileSync(join(folder, 'file'), '');
  assert.instance(await rejection(loadOrCreateIdentity(join(folder, 'file', 'keys'))), KeyUnavailableError);
  symlinkSync(join(folder, 'nowhere'), join(folder, 'dangling'));
  const error = await rejection(createIdentity(join(folder, 'dangling')));
  assert.ok(error instanceof KeyUnavailableError || error instanceof KeyExistsError);
});

test('keys are never overwritten', async ({ keys }) => {
  const first = await createIdentity(keys);
  assert.instance(await rejection(createIdentity(keys)), KeyExistsError);
  assert.is((await loadIdentity(keys)).account, first.account);
});

test('an account from a keystore', async ({ keys }) => {
  const keystore = exportKeystore(new Uint8Array(32).fill(3), { password: 'correct horse' });
  assert.instance(await rejection(createIdentity(keys, { keystore, password: 'wrong' })), KeystorePasswordError);
  assert.not.ok(existsSync(keys));
  const made = await createIdentity(keys, { keystore, password: 'correct horse' });
  assert.is(made.address, keystore.address);
  assert.is((await loadOrCreateIdentity(keys, { password: 'correct horse' })).account, made.account);
  assert.instance(await rejection(loadIdentity(keys)), KeystorePasswordError);
  writeFileSync(join(keys, 'account.seed'), `${'11'.repeat(32)}\n`, { mode: 0o600 });
  assert.instance(await rejection(loadIdentity(keys, { password: 'correct horse' })), KeyDamagedError);
});

test('no way of printing an identity shows a secret', async ({ keys }) => {
  const identity = await loadOrCreateIdentity(keys);
  const secrets = readdirSync(keys).map((name) => readFileSync(join(keys, name), 'utf8').trim());
  const printed = [
    JSON.stringify(identity),
    JSON.stringify({ nested: [identity, identity.signer, identity.session] }),
    inspect(identity, { showHidden: true, depth: 10 }),
    inspect(
      { identity, signer: identity.signer, session: identity.session },
      { showHidden: true, depth: 10, getters: true },
    ),
    String(identity),
    `${inspect(Object.getOwnPropertyDescriptors(identity), { depth: 10 })}`,
  ].join('\n');
  assert.ok(printed.includes(identity.address));
  for (const secret of secrets) {
    assert.not.ok(printed.toLowerCase().includes(secret));
    assert.not.ok(printed.includes(Buffer.from(secret, 'hex').toString('base64')));
    assert.not.ok(printed.replace(/[\s,]/g, '').includes([...Buffer.from(secret, 'hex')].slice(0, 8).join('')));
  }
});

test.run();
