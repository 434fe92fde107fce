/**
 * Signing and verifying: sr25519 for accounts (and the VRF of the beacon), ed25519 for session keys.
 *
 * Consensus votes use ed25519 because it verifies several times faster than sr25519 in WebAssembly, and in native code.
 * sr25519 signatures are randomized: never compare them as bytes.
 */
import { createPrivateKey, createPublicKey, sign } from 'node:crypto';
import { type AccountId, accountFromPublicKey, accountPublicKey } from '../chain/account.ts';
import { hashFromBytes } from '../chain/hash.ts';
import { ED25519_SPKI_PREFIX } from '../chain/session-signature.ts';
import type { SessionKey } from '../chain/validator-set.ts';
import {
  proveSr25519,
  type Sr25519Pair,
  signSr25519,
  sr25519Pair,
  sr25519Ready,
  verifySr25519,
  verifyVrf,
} from './sr25519.ts';

export { verifySession } from '../chain/session-signature.ts';

/** Resolves when the sr25519 WebAssembly is ready. Await it once before any function of this file. */
export async function signaturesReady(): Promise<void> {
  await sr25519Ready();
}

/** An sr25519 account that can sign. The secret never leaves the object. */
export interface AccountSigner {
  readonly account: AccountId;
  /** 64-byte sr25519 signature. */
  sign(message: Uint8Array): Uint8Array;
  /** 96-byte VRF result over the message: 32 bytes of output, 64 of proof. Equal messages give equal outputs. */
  prove(message: Uint8Array): Uint8Array;
}

/** An ed25519 session key that can sign. */
export interface SessionSigner {
  readonly sessionKey: SessionKey;
  /** 64-byte ed25519 signature. */
  sign(message: Uint8Array): Uint8Array;
}

/** Account signer of a 32-byte secret seed. */
export function accountSigner(seed: Uint8Array): AccountSigner {
  return accountSignerOfPair(sr25519Pair(seed));
}

/** Account signer of an sr25519 key pair. */
export function accountSignerOfPair(pair: Sr25519Pair): AccountSigner {
  return {
    account: accountFromPublicKey(pair.publicKey),
    sign: (message) => signSr25519(pair, message),
    prove: (message) => proveSr25519(pair, message),
  };
}

/** True when `signature` is the account's over `message`. Never throws. */
export function verifyAccount(account: AccountId, message: Uint8Array, signature: Uint8Array): boolean {
  return verifySr25519(accountPublicKey(account), message, signature);
}

/** The VRF output when `proof` (96 bytes) is the account's over `message`, else undefined. Never throws. */
export function verifyProof(account: AccountId, message: Uint8Array, proof: Uint8Array): Uint8Array | undefined {
  return verifyVrf(accountPublicKey(account), message, proof) ? proof.slice(0, 32) : undefined;
}

/** DER prefix of an ed25519 secret key (RFC 8410): what precedes the 32 raw bytes. */
const ED25519_PKCS8_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex');

/** Session signer of a 32-byte ed25519 seed. */
export function sessionSigner(seed: Uint8Array): SessionSigner {
  const privateKey = createPrivateKey({
    key: Buffer.concat([ED25519_PKCS8_PREFIX, seed]),
    format: 'der',
    type: 'pkcs8',
  });
  const spki = createPublicKey(privateKey).export({ format: 'der', type: 'spki' });
  return {
    sessionKey: hashFromBytes(spki.subarray(ED25519_SPKI_PREFIX.length)),
    sign: (message) => new Uint8Array(sign(null, message, privateKey)),
  };
}
