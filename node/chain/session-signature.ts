/**
 * Verifying ed25519 session keys. Apart from `identity/`, because the ledger checks them too and has to stay pure.
 */
import { createPublicKey, type KeyObject, verify } from 'node:crypto';
import type { AccountId } from './account.ts';
import { type Hash, hashBytes } from './hash.ts';
import type { SessionKey } from './validator-set.ts';

/** DER prefix of an ed25519 public key (RFC 8410): what precedes the 32 raw bytes. */
export const ED25519_SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex');

/** Parsed public keys by session key. Validator sets are small; the oldest entry goes when there are more. */
const publicKeys = new Map<SessionKey, KeyObject>();
const MAX_CACHED_PUBLIC_KEYS = 1024;

/** True when `signature` is the session key's over `message`. Never throws. */
export function verifySession(sessionKey: SessionKey, message: Uint8Array, signature: Uint8Array): boolean {
  try {
    let key = publicKeys.get(sessionKey);
    if (key === undefined) {
      const der = Buffer.concat([ED25519_SPKI_PREFIX, hashBytes(sessionKey as Hash)]);
      key = createPublicKey({ key: der, format: 'der', type: 'spki' });
      if (publicKeys.size >= MAX_CACHED_PUBLIC_KEYS) {
        for (const oldest of publicKeys.keys()) {
          publicKeys.delete(oldest);
          break;
        }
      }
      publicKeys.set(sessionKey, key);
    }
    return signature.length === 64 && verify(null, message, key, signature);
  } catch {
    return false;
  }
}

/**
 * What a session key signs to show that whoever certifies it holds it: else anyone could take another validator's key for
 * itself. The network is in it, so that a proof is of use on one network only.
 */
export function sessionProofBytes(networkId: Uint8Array, account: AccountId, sessionKey: SessionKey): Uint8Array {
  return Buffer.concat([
    Buffer.from('alice/session-proof/1'),
    networkId,
    Buffer.from(account, 'hex'),
    hashBytes(sessionKey),
  ]);
}
