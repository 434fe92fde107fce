/**
 * Accounts: sr25519 public keys, shown to people as SS58 addresses with prefix 300 (they start with "a").
 */
import { decodeAddress, encodeAddress } from '@polkadot/util-crypto';

/** sr25519 public key as 64 lower-case hex characters; sorts in the same order as its bytes. */
export type AccountId = string & { readonly __brand: 'AccountId' };

/** SS58 text form of an account, prefix 300. */
export type Address = string & { readonly __brand: 'Address' };

/** SS58 network prefix of Alice (MISSION.md). */
export const SS58_PREFIX = 300;

/** Thrown when text is no SS58 address with prefix 300, or bytes are no public key. */
export class InvalidAccountError extends Error {
  static readonly code = 'ERR_INVALID_ACCOUNT';
  readonly code = InvalidAccountError.code;
  override readonly name = 'InvalidAccountError';
}

/** Names a 32-byte public key. Throws {@link InvalidAccountError}. */
export function accountFromPublicKey(publicKey: Uint8Array): AccountId {
  if (publicKey.length !== 32) throw new InvalidAccountError(`a public key has 32 bytes, got ${publicKey.length}`);
  return Buffer.from(publicKey.buffer, publicKey.byteOffset, publicKey.byteLength).toString('hex') as AccountId;
}

/** The 32-byte public key of an account. */
export function accountPublicKey(account: AccountId): Uint8Array {
  return new Uint8Array(Buffer.from(account, 'hex'));
}

/** SS58 address of an account. */
export function addressOf(account: AccountId): Address {
  return encodeAddress(accountPublicKey(account), SS58_PREFIX) as Address;
}

/** Reads an SS58 address with prefix 300. Throws {@link InvalidAccountError}. */
export function accountFromAddress(address: string): AccountId {
  try {
    return accountFromPublicKey(decodeAddress(address, false, SS58_PREFIX));
  } catch (cause) {
    throw new InvalidAccountError(`not an Alice address (SS58, prefix ${SS58_PREFIX}): "${address.slice(0, 80)}"`, {
      cause,
    });
  }
}
