/**
 * Accounts as keystore JSON, the format of the polkadot tools: what is exported here imports there, and back.
 */
import { createPair } from '@polkadot/keyring';
import { decodePair } from '@polkadot/keyring/pair/decode';
import { base64Decode, decodeAddress, encodeAddress, sr25519PairFromSeed } from '@polkadot/util-crypto';
import * as v from 'valibot';
import { accountFromPublicKey, SS58_PREFIX } from '../chain/account.ts';
import { KeyDamagedError, KeystorePasswordError } from './errors.ts';
import { readSecretFile, writeSecretFile } from './key-files.ts';
import { type AccountSigner, accountSignerOfPair, verifyAccount } from './signatures.ts';

const keystoreSchema = v.object({
  encoded: v.pipe(v.string(), v.maxLength(4096)),
  encoding: v.object({
    content: v.tuple([v.literal('pkcs8'), v.literal('sr25519')]),
    type: v.union([v.array(v.string()), v.string()]),
    version: v.picklist(['0', '1', '2', '3']),
  }),
  address: v.string(),
  meta: v.optional(v.record(v.string(), v.unknown()), {}),
});

/** Keystore JSON. `encoded` holds the secret key, in clear when `encoding.type` is "none". */
export type Keystore = v.InferOutput<typeof keystoreSchema>;

/**
 * Keystore of an account from its 32-byte seed. With an empty password the secret is not encrypted: for networks where
 * nothing is at stake. Encryption (scrypt) takes about a second.
 */
export function exportKeystore(seed: Uint8Array, options: { password?: string; name?: string } = {}): Keystore {
  const pair = createPair(
    { toSS58: (publicKey) => encodeAddress(publicKey, SS58_PREFIX), type: 'sr25519' },
    sr25519PairFromSeed(seed),
    options.name === undefined ? {} : { name: options.name },
  );
  const password = options.password === '' ? undefined : options.password;
  return v.parse(keystoreSchema, pair.toJson(password));
}

/**
 * The account of a keystore JSON, from this program or another, whatever network its address is written for. Throws
 * {@link KeyDamagedError} and {@link KeystorePasswordError}.
 */
export function importKeystore(value: unknown, password = ''): AccountSigner {
  const parsed = v.safeParse(keystoreSchema, value);
  if (!parsed.success) {
    throw new KeyDamagedError('not an sr25519 keystore JSON: export the account again with the program it comes from');
  }
  const { encoded, encoding, address } = parsed.output;
  const types = [encoding.type].flat();
  const encrypted = !types.includes('none');
  if (encrypted && password === '') throw new KeystorePasswordError('the keystore needs its password');
  let pair: { publicKey: Uint8Array; secretKey: Uint8Array };
  try {
    const bytes = encoded.startsWith('0x')
      ? new Uint8Array(Buffer.from(encoded.slice(2), 'hex'))
      : base64Decode(encoded);
    pair = decodePair(encrypted ? password : undefined, bytes, types as Parameters<typeof decodePair>[2]);
    // Generations 1 and 2 of the format hold the seed.
    if (pair.secretKey.length === 32) pair = sr25519PairFromSeed(pair.secretKey);
  } catch (cause) {
    // The cause is left out on purpose where it could quote the secret; the library's messages do not.
    if (encrypted) throw new KeystorePasswordError('the password does not open the keystore', { cause });
    throw new KeyDamagedError('the keystore does not hold a key: take it from a copy', { cause });
  }
  const signer = accountSignerOfPair({
    publicKey: new Uint8Array(pair.publicKey),
    secretKey: new Uint8Array(pair.secretKey),
  });
  const probe = Buffer.from('alice/keystore-probe/1');
  if (!verifies(signer, probe) || !isAddressOf(address, signer)) {
    throw new KeyDamagedError('secret key, public key and address of the keystore do not belong together');
  }
  return signer;
}

function verifies(signer: AccountSigner, message: Uint8Array): boolean {
  try {
    return verifyAccount(signer.account, message, signer.sign(message));
  } catch {
    // The WebAssembly throws on bytes that are no secret key.
    return false;
  }
}

function isAddressOf(address: string, signer: AccountSigner): boolean {
  try {
    return accountFromPublicKey(decodeAddress(address, true)) === signer.account;
  } catch {
    return false;
  }
}

/** Writes a keystore, mode 0600, where nothing is yet. Throws `KeyExistsError` and `KeyUnavailableError`. */
export async function writeKeystore(path: string, keystore: Keystore): Promise<void> {
  await writeSecretFile(path, `${JSON.stringify(keystore, undefined, 2)}\n`);
}

/** Reads a keystore file and opens it. Throws the errors of `errors.ts`. */
export async function readKeystore(path: string, password = ''): Promise<AccountSigner> {
  const text = await readSecretFile(path);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new KeyDamagedError(`${path} is no keystore JSON: put it back from a copy`);
  }
  return importKeystore(value, password);
}
