/**
 * sr25519 over raw bytes: signatures of accounts and the VRF of the beacon.
 *
 * The schnorrkel library compiled to WebAssembly (`@polkadot/wasm-crypto`), not the JavaScript that newer
 * `@polkadot/util-crypto` calls: eight times as many checks a second (docs/measuring.md). Imports nothing of ours, so that
 * a thread which only verifies stays small.
 */
import {
  sr25519KeypairFromSeed,
  sr25519Sign,
  sr25519Verify,
  vrfSign,
  vrfVerify,
  waitReady,
} from '@polkadot/wasm-crypto';

export const SR25519_PUBLIC_KEY_BYTES = 32;
export const SR25519_SIGNATURE_BYTES = 64;
/** 32 bytes of output, 64 of proof. */
export const SR25519_VRF_BYTES = 96;

/** An sr25519 key pair: 32-byte public key, 64-byte expanded secret key. */
export interface Sr25519Pair {
  readonly publicKey: Uint8Array;
  readonly secretKey: Uint8Array;
}

const SECRET_KEY_BYTES = 64;
const NO_CONTEXT = new Uint8Array(0);

/** Resolves when the WebAssembly is ready. Await it once before any other function of this file. Throws when it does not load. */
export async function sr25519Ready(): Promise<void> {
  if (!(await waitReady())) throw new Error('the sr25519 WebAssembly does not load on this machine');
}

/** The key pair of a 32-byte secret seed. */
export function sr25519Pair(seed: Uint8Array): Sr25519Pair {
  const bytes = sr25519KeypairFromSeed(seed);
  return { secretKey: bytes.slice(0, SECRET_KEY_BYTES), publicKey: bytes.slice(SECRET_KEY_BYTES) };
}

/** 64-byte signature; randomized. */
export function signSr25519(pair: Sr25519Pair, message: Uint8Array): Uint8Array {
  return sr25519Sign(pair.publicKey, pair.secretKey, message);
}

/** 96-byte VRF result: equal messages give equal outputs, the proofs are randomized. */
export function proveSr25519(pair: Sr25519Pair, message: Uint8Array): Uint8Array {
  return vrfSign(pair.secretKey, NO_CONTEXT, message, NO_CONTEXT);
}

/** True when `signature` is the key's over `message`. Never throws, whatever the bytes. */
export function verifySr25519(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  if (signature.length !== SR25519_SIGNATURE_BYTES || !isUsable(publicKey)) return false;
  try {
    return sr25519Verify(signature, message, publicKey);
  } catch {
    // Bytes that are no signature or no curve point do not verify.
    return false;
  }
}

/** True when `proof` is the key's VRF result over `message`. Never throws, whatever the bytes. */
export function verifyVrf(publicKey: Uint8Array, message: Uint8Array, proof: Uint8Array): boolean {
  if (proof.length !== SR25519_VRF_BYTES || !isUsable(publicKey)) return false;
  try {
    return vrfVerify(publicKey, NO_CONTEXT, message, NO_CONTEXT, proof);
  } catch {
    return false;
  }
}

/** schnorrkel accepts the neutral element (all zeros) as a key, for which anyone can sign. */
function isUsable(publicKey: Uint8Array): boolean {
  return publicKey.length === SR25519_PUBLIC_KEY_BYTES && publicKey.some((byte) => byte !== 0);
}
