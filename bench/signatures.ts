/** Checks a second on one core: sr25519 signatures and beacon proofs, beside the JavaScript of `@polkadot/util-crypto`. */
import * as library from '@polkadot/util-crypto';
import { sessionSigner, verifySession } from '../node/identity/signatures.ts';
import {
  proveSr25519,
  signSr25519,
  sr25519Pair,
  sr25519Ready,
  verifySr25519,
  verifyVrf,
} from '../node/identity/sr25519.ts';
import { ThreadedVerifier } from '../node/signature-checks/threaded-verifier.ts';
import type { BenchmarkOptions, BenchmarkResult } from './benchmark.ts';
import { compare, ratioOf, secondsOf } from './measure.ts';

/** One line for the list of benchmarks. */
export const describe = 'sr25519 signatures and proofs checked a second, against the library in JavaScript';

const COUNT = 256;
const NOTHING = new Uint8Array(0);

/** Measures; checks a second of {@link COUNT} messages of 200 bytes by as many keys. */
export async function run({ signal }: BenchmarkOptions): Promise<BenchmarkResult> {
  await sr25519Ready();
  const cases = Array.from({ length: COUNT }, (_, index) => {
    const keys = sr25519Pair(new Uint8Array(32).fill(1 + (index % 250)));
    const message = new Uint8Array(200).fill(index);
    const session = sessionSigner(new Uint8Array(32).fill(1 + (index % 250)));
    return {
      publicKey: keys.publicKey,
      message,
      signature: signSr25519(keys, message),
      proof: proveSr25519(keys, message),
      sessionKey: session.sessionKey,
      sessionSignature: session.sign(message),
    };
  });
  const checks = cases.map(({ publicKey, message, signature }) => ({
    kind: 'signature' as const,
    publicKey,
    messages: [message],
    signature,
  }));
  const verifier = new ThreadedVerifier({ warn: () => {} });
  const perSecond = async (each: () => unknown) => COUNT / (await secondsOf(each));
  const measured = await compare(
    {
      ours: () => perSecond(() => cases.map((c) => verifySr25519(c.publicKey, c.message, c.signature))),
      javascript: () => perSecond(() => cases.map((c) => library.sr25519Verify(c.message, c.signature, c.publicKey))),
      thread: () => perSecond(() => verifier.verify(checks, 'block')),
      proofs: () => perSecond(() => cases.map((c) => verifyVrf(c.publicKey, c.message, c.proof))),
      javascript_proofs: () =>
        perSecond(() => cases.map((c) => library.sr25519VrfVerify(c.message, c.proof, c.publicKey, NOTHING, NOTHING))),
      ed25519: () => perSecond(() => cases.map((c) => verifySession(c.sessionKey, c.message, c.sessionSignature))),
    },
    { turns: 5, signal },
  );
  await verifier.close();
  const { summaries } = measured;
  return {
    figures: {
      checks_per_s: summaries.ours?.median,
      javascript_checks_per_s: summaries.javascript?.median,
      checks_ratio: ratioOf(measured, 'ours', 'javascript').median,
      thread_checks_per_s: summaries.thread?.median,
      proofs_per_s: summaries.proofs?.median,
      javascript_proofs_per_s: summaries.javascript_proofs?.median,
      ed25519_checks_per_s: summaries.ed25519?.median,
    },
    notes: [
      'checks_per_s: node/identity/sr25519.ts on the calling thread; thread_checks_per_s: through ThreadedVerifier, one thread',
      'ed25519_checks_per_s: votes, by OpenSSL',
    ],
  };
}
