/** Transactions, as gossip and blocks bring them. */

import { accountFromPublicKey } from '../../../node/chain/account.ts';
import { registerMiner } from '../../../node/chain/calls.ts';
import { parseHash } from '../../../node/chain/hash.ts';
import { type Call, decodeTransaction, encodeTransaction } from '../../../node/chain/transaction.ts';
import { canonicalCap, format, runFormat } from '../canonical.ts';

export const describe = 'transactions of every call';

export const headBytes = 64;

/** One of every call. */
export function seeds(): Uint8Array[] {
  const account = (byte: number) => accountFromPublicKey(new Uint8Array(32).fill(byte));
  const hash = parseHash('5a'.repeat(32));
  const salt = new Uint8Array(32).fill(3);
  const verdicts = [
    { tag: 'scored' as const, value: -5n },
    { tag: 'unavailable' as const, value: undefined },
    { tag: 'malformed' as const, value: undefined },
  ];
  const scores = verdicts.map((verdict, i) => ({ miner: account(i), slot: i, verdict }));
  const cid = 'bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku';
  const calls: Call[] = [
    { tag: 'transfer', value: { to: account(1), amount: 10n ** 20n } },
    registerMiner('2 cores, 24 GiB'),
    { tag: 'commitSubmission', value: { round: 9, attempt: 1, slot: 0, commitment: hash } },
    {
      tag: 'revealSubmission',
      value: {
        round: 9,
        slot: 0,
        cid,
        sizeBytes: 48_000,
        salt,
        provider: '12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA',
      },
    },
    { tag: 'commitScores', value: { round: 9, commitment: hash } },
    { tag: 'revealScores', value: { round: 9, salt, heldOutLoss: 8_300_000_000n, scores } },
    { tag: 'attestModel', value: { round: 9, modelRoot: hash, checkpoint: cid } },
  ];
  const signature = new Uint8Array(64).fill(7);
  return calls.map((call) =>
    encodeTransaction({ body: { version: 1, signer: account(9), nonce: 4, validUntil: 500, tip: 0, call }, signature }),
  );
}

export const allocationCap = canonicalCap;

const transaction = format(decodeTransaction, encodeTransaction);

export function run(input: Uint8Array): string {
  return runFormat(transaction, input);
}
