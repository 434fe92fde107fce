/**
 * Checking sr25519 signatures and VRF proofs in numbers, without holding up the event loop.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { verifySr25519, verifyVrf } from '../identity/sr25519.ts';

/** One question: is this the key's signature over any of the messages, or its VRF proof over one? */
export interface SignatureCheck {
  readonly kind: 'signature' | 'proof';
  /** 32-byte sr25519 public key. */
  readonly publicKey: Uint8Array;
  /** One holds if the signature is over any of these. */
  readonly messages: readonly Uint8Array[];
  /** 64 bytes of signature or 96 of VRF result; any other length does not verify. */
  readonly signature: Uint8Array;
}

/**
 * Who waits: blocks, on which agreement waits, come before this node's own transactions, and those before what peers send
 * unasked.
 */
export const URGENCIES = ['block', 'own', 'gossip'] as const;
export type Urgency = (typeof URGENCIES)[number];

/** Thrown when so many checks wait that no more are taken. Nothing is known of the signatures. */
export class VerifierBusyError extends Error {
  static readonly code = 'ERR_VERIFIER_BUSY';
  readonly code = VerifierBusyError.code;
  override readonly name = 'VerifierBusyError';
}

/** Thrown by calls that wait when the verifier is closed, and by later ones. Nothing is known of the signatures. */
export class VerifierClosedError extends Error {
  static readonly code = 'ERR_VERIFIER_CLOSED';
  readonly code = VerifierClosedError.code;
  override readonly name = 'VerifierClosedError';
}

/** Checks signatures somewhere. */
export interface SignatureVerifier {
  /**
   * Whether each check holds, in order. The arrays are not to change meanwhile. Throws {@link VerifierBusyError} and
   * {@link VerifierClosedError}; never resolves to true for a signature that was not checked.
   */
  verify(checks: readonly SignatureCheck[], urgency: Urgency): Promise<readonly boolean[]>;
  /** Lets go of everything. */
  close(): Promise<void>;
}

/** Answers a check here and now: 0.25 ms for each message, 0.5 ms for a proof. Never throws. */
export function holds({ kind, publicKey, messages, signature }: SignatureCheck): boolean {
  const verify = kind === 'proof' ? verifyVrf : verifySr25519;
  return messages.some((message) => verify(publicKey, message, signature));
}

/** Checks between two turns of the event loop: 2 to 8 ms. */
export const CHECKS_PER_TURN = 8;

/** Verifies on the calling thread, a few checks a turn: for tools and tests, and where no thread can be started. */
export class InlineVerifier implements SignatureVerifier {
  async verify(checks: readonly SignatureCheck[]): Promise<readonly boolean[]> {
    const results: boolean[] = [];
    for (const [index, check] of checks.entries()) {
      if (index > 0 && index % CHECKS_PER_TURN === 0) await nextTurn();
      results.push(holds(check));
    }
    return results;
  }

  async close(): Promise<void> {}
}
