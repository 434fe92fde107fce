import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Keyring } from '@polkadot/keyring';
import { encodeAddress, mnemonicToMiniSecret } from '@polkadot/util-crypto';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { accountFromAddress, addressOf, InvalidAccountError } from '../../node/chain/account.ts';
import { KeyDamagedError, KeyExistsError, KeystorePasswordError } from '../../node/identity/errors.ts';
import { exportKeystore, importKeystore, readKeystore, writeKeystore } from '../../node/identity/keystore.ts';
import { accountSigner, signaturesReady, verifyAccount } from '../../node/identity/signatures.ts';

const test = suite('keystore');
test.before(signaturesReady);

/** Addresses of the well-known development accounts, as other tools write them for prefix 300. */
const KNOWN = [
  ['//Alice', 'a2xVnE6ZjQ8zwMi2h4HAUN6nnUWxakh1xMLZ3ScBtmkUTt9V3'],
  ['//Bob', 'a2vvcx2PbGR13ChYBdMCXckspNfwhJ9ccrWQiPF4DhmZE7Ezd'],
] as const;

const SEED = new Uint8Array(32).fill(5);

function thrown(action: () => unknown): unknown {
  try {
    action();
  } catch (error) {
    return error;
  }
  throw new Error('did not throw');
}

test('known addresses', () => {
  const keyring = new Keyring({ type: 'sr25519' });
  for (const [uri, address] of KNOWN) {
    const { publicKey } = keyring.addFromUri(uri);
    const account = accountFromAddress(address);
    assert.is(account, Buffer.from(publicKey).toString('hex'));
    assert.is(addressOf(account), address);
  }
  assert.instance(
    thrown(() => accountFromAddress(encodeAddress(new Uint8Array(32), 42))),
    InvalidAccountError,
  );
});

const vectors = fileURLToPath(new URL('../../../shared/vectors/known-answers.json', import.meta.url));
(existsSync(vectors) ? test : test.skip)('addresses of the shared vectors', () => {
  const { ss58 } = JSON.parse(readFileSync(vectors, 'utf8'));
  const keyring = new Keyring({ type: 'sr25519', ss58Format: ss58.prefix });
  for (const { uri, address } of ss58.vectors) {
    assert.is(accountFromAddress(address), Buffer.from(keyring.addFromUri(uri).publicKey).toString('hex'));
  }
});

test('a keystore made here opens in the polkadot keyring, with and without password', () => {
  for (const password of ['', 'correct horse']) {
    const keystore = exportKeystore(SEED, { password, name: 'mine' });
    const pair = new Keyring({ type: 'sr25519', ss58Format: 300 }).addFromJson(JSON.parse(JSON.stringify(keystore)));
    assert.is(pair.address, keystore.address);
    assert.is(pair.meta.name, 'mine');
    pair.decodePkcs8(password === '' ? undefined : password);
    const message = Buffer.from('message');
    assert.ok(verifyAccount(accountSigner(SEED).account, message, pair.sign(message)));
  }
});

test('a keystore made by the polkadot keyring, for another network, opens here', () => {
  const keyring = new Keyring({ type: 'sr25519', ss58Format: 42 });
  const mnemonic = 'bottom drive obey lake curtain smoke basket hold race lonely fit walk';
  const pair = keyring.addFromMnemonic(mnemonic);
  for (const password of [undefined, 'secret']) {
    const signer = importKeystore(pair.toJson(password), password);
    assert.is(signer.account, Buffer.from(pair.publicKey).toString('hex'));
    const message = Buffer.from('message');
    assert.ok(verifyAccount(signer.account, message, signer.sign(message)));
    assert.ok(pair.verify(message, signer.sign(message), pair.publicKey));
  }
  assert.is(accountSigner(mnemonicToMiniSecret(mnemonic)).account, Buffer.from(pair.publicKey).toString('hex'));
});

test('signer and imported signer are the same account, and prove the same beacon', () => {
  const imported = importKeystore(exportKeystore(SEED));
  const message = Buffer.from('beacon');
  assert.is(imported.account, accountSigner(SEED).account);
  assert.equal(imported.prove(message).slice(0, 32), accountSigner(SEED).prove(message).slice(0, 32));
});

test('no or wrong password, damage, and things that are no keystore', () => {
  const locked = exportKeystore(SEED, { password: 'correct horse' });
  assert.instance(
    thrown(() => importKeystore(locked)),
    KeystorePasswordError,
  );
  assert.instance(
    thrown(() => importKeystore(locked, 'wrong')),
    KeystorePasswordError,
  );
  const open = exportKeystore(SEED);
  const bytes = Buffer.from(open.encoded, 'base64');
  for (let at = 0; at < bytes.length; at += 3) {
    // Bytes 48 to 79 only seed the randomness of signatures: a key with other ones there is the same key.
    if (at >= 48 && at < 80) continue;
    const damaged = Buffer.from(bytes);
    damaged[at] ^= 0x40;
    assert.instance(
      thrown(() => importKeystore({ ...open, encoded: damaged.toString('base64') })),
      KeyDamagedError,
      `byte ${at}`,
    );
  }
  const other = exportKeystore(new Uint8Array(32).fill(6));
  for (const value of [
    undefined,
    null,
    'text',
    {},
    { ...open, encoded: '' },
    { ...open, encoded: '####' },
    { ...open, encoded: bytes.subarray(0, 50).toString('base64') },
    { ...open, address: other.address },
    { ...open, address: 'x' },
    { ...open, encoding: { ...open.encoding, content: ['pkcs8', 'ed25519'] } },
  ]) {
    const error = thrown(() => importKeystore(value));
    assert.instance(error, KeyDamagedError);
    assert.not.ok((error as Error).message.includes(open.encoded.slice(8, 40)));
  }
});

test('a keystore file: for the owner only, never overwritten', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'alice-keystore-'));
  try {
    const path = join(folder, 'account.json');
    await writeKeystore(path, exportKeystore(SEED));
    assert.is(statSync(path).mode & 0o777, 0o600);
    assert.is((await readKeystore(path)).account, accountSigner(SEED).account);
    const error = await writeKeystore(path, exportKeystore(new Uint8Array(32))).catch((cause: unknown) => cause);
    assert.instance(error, KeyExistsError);
    assert.is((await readKeystore(path)).account, accountSigner(SEED).account);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test.run();
