/**
 * The keys of one node: its account, the session key that votes for the account, and the key that names it to peers.
 *
 * A node's `keys` folder holds `account.seed` (or `account.json`, an imported keystore), `session.seed` and `peer.seed`:
 * 32 random bytes each, as hex. The folder is made once, whole or not at all; a damaged one is an error and is never
 * replaced, because new keys would be another account.
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { type AccountId, type Address, addressOf } from '../chain/account.ts';
import { sessionCertificateBytes } from '../chain/genesis.ts';
import { sessionProofBytes } from '../chain/session-signature.ts';
import type { SessionKey } from '../chain/validator-set.ts';
import { KeyDamagedError, KeyExistsError } from './errors.ts';
import { readSecretFile, readSeedFile, SEED_BYTES, secretNames, seedText, writeSecretFolder } from './key-files.ts';
import { exportKeystore, importKeystore, type Keystore, readKeystore } from './keystore.ts';
import { type AccountSigner, accountSigner, type SessionSigner, sessionSigner, signaturesReady } from './signatures.ts';

const ACCOUNT_SEED_FILE = 'account.seed';
const ACCOUNT_KEYSTORE_FILE = 'account.json';
const SESSION_SEED_FILE = 'session.seed';
const PEER_SEED_FILE = 'peer.seed';

/** The keys of a node. Logs and JSON show the public parts only. */
export class Identity {
  readonly signer: AccountSigner;
  readonly session: SessionSigner;
  readonly #peerSeed: Uint8Array;

  constructor(keys: { signer: AccountSigner; session: SessionSigner; peerSeed: Uint8Array }) {
    this.signer = keys.signer;
    this.session = keys.session;
    this.#peerSeed = keys.peerSeed;
  }

  get account(): AccountId {
    return this.signer.account;
  }

  get address(): Address {
    return addressOf(this.account);
  }

  get sessionKey(): SessionKey {
    return this.session.sessionKey;
  }

  /** 32-byte ed25519 seed of the libp2p key. A method, so that nothing prints it by accident. */
  peerSeed(): Uint8Array {
    return this.#peerSeed.slice();
  }

  /** The account's 64-byte signature that lets the session key vote for it, as genesis wants it. */
  certificate(): Uint8Array {
    return this.signer.sign(sessionCertificateBytes(this.account, this.sessionKey));
  }

  /** The session key's 64-byte signature of the account, as the call `certifySessionKey` wants it on a network. */
  sessionProof(networkId: Uint8Array): Uint8Array {
    return this.session.sign(sessionProofBytes(networkId, this.account, this.sessionKey));
  }

  toJSON(): { account: AccountId; address: Address; sessionKey: SessionKey } {
    return { account: this.account, address: this.address, sessionKey: this.sessionKey };
  }

  [inspect.custom](): string {
    return `Identity(${this.address})`;
  }
}

/** Options of making or opening an identity. */
export interface IdentityOptions {
  /** Password of `account.json`, where the account came from a keystore. */
  readonly password?: string;
}

/**
 * Makes a `keys` folder with new random keys, or with the account of a keystore. Throws {@link KeyExistsError} and
 * `KeyUnavailableError`, and what `importKeystore` throws.
 */
export async function createIdentity(
  folder: string,
  options: IdentityOptions & { keystore?: Keystore } = {},
): Promise<Identity> {
  await signaturesReady();
  const accountSeed = new Uint8Array(randomBytes(SEED_BYTES));
  const sessionSeed = new Uint8Array(randomBytes(SEED_BYTES));
  const peerSeed = new Uint8Array(randomBytes(SEED_BYTES));
  const { keystore } = options;
  const signer = keystore === undefined ? accountSigner(accountSeed) : importKeystore(keystore, options.password);
  const account: [string, string] =
    keystore === undefined
      ? [ACCOUNT_SEED_FILE, seedText(accountSeed)]
      : [ACCOUNT_KEYSTORE_FILE, `${JSON.stringify(keystore, undefined, 2)}\n`];
  await writeSecretFolder(
    folder,
    new Map([account, [SESSION_SEED_FILE, seedText(sessionSeed)], [PEER_SEED_FILE, seedText(peerSeed)]]),
  );
  return new Identity({ signer, session: sessionSigner(sessionSeed), peerSeed });
}

/**
 * Opens a `keys` folder. Throws {@link KeyDamagedError} (a file missing or not a key), `KeyPermissionsError`,
 * `KeystorePasswordError`, `KeyUnavailableError`.
 */
export async function loadIdentity(folder: string, options: IdentityOptions = {}): Promise<Identity> {
  await signaturesReady();
  const names = await secretNames(folder);
  if (names.includes(ACCOUNT_SEED_FILE) && names.includes(ACCOUNT_KEYSTORE_FILE)) {
    throw new KeyDamagedError(
      `${folder} names two accounts: move ${ACCOUNT_SEED_FILE} or ${ACCOUNT_KEYSTORE_FILE} away`,
    );
  }
  const signer = names.includes(ACCOUNT_KEYSTORE_FILE)
    ? await readKeystore(join(folder, ACCOUNT_KEYSTORE_FILE), options.password)
    : accountSigner(await readSeedFile(join(folder, ACCOUNT_SEED_FILE)));
  const session = sessionSigner(await readSeedFile(join(folder, SESSION_SEED_FILE)));
  return new Identity({ signer, session, peerSeed: await readSeedFile(join(folder, PEER_SEED_FILE)) });
}

/**
 * Keystore JSON of the account in a `keys` folder. An account that came as a keystore goes out as it came, under the
 * password that it has; the one given has to open it. Throws what {@link loadIdentity} throws.
 */
export async function exportAccount(
  folder: string,
  options: { readonly password: string; readonly name?: string },
): Promise<Keystore> {
  // Opening it checks the folder and the password.
  await loadIdentity(folder, options);
  const names = await secretNames(folder);
  if (names.includes(ACCOUNT_KEYSTORE_FILE))
    return JSON.parse(await readSecretFile(join(folder, ACCOUNT_KEYSTORE_FILE))) as Keystore;
  return exportKeystore(await readSeedFile(join(folder, ACCOUNT_SEED_FILE)), options);
}

/** Opens a `keys` folder, or makes it where there is none. Throws what loading throws, and `KeyUnavailableError`. */
export async function loadOrCreateIdentity(folder: string, options: IdentityOptions = {}): Promise<Identity> {
  if ((await secretNames(folder)).length > 0) return loadIdentity(folder, options);
  try {
    return await createIdentity(folder);
  } catch (error) {
    // Another process was first: its keys are the keys.
    if (error instanceof KeyExistsError) return loadIdentity(folder, options);
    throw error;
  }
}
