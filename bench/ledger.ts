/**
 * Speed of the ledger and size of its proofs. Transfers between random accounts of a state of 10^5 accounts, fees paid,
 * in blocks of 500, as a validator applies them: decoded, executed, conservation checked, new state root; signatures
 * apart, because a validator checks them when they arrive. Baseline: the same transfers on a plain `Map` of balances.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { localParameters } from '../bootstrap/local/parameters.ts';
import { type AccountId, addressOf } from '../node/chain/account.ts';
import { amount } from '../node/chain/amount.ts';
import { transfer } from '../node/chain/calls.ts';
import type { Genesis } from '../node/chain/genesis.ts';
import { domainHash, type Hash, hashBytes } from '../node/chain/hash.ts';
import {
  decodeTransaction,
  encodeTransaction,
  TRANSACTION_VERSION,
  transactionId,
  transactionSignBytes,
} from '../node/chain/transaction.ts';
import { accountSigner, signaturesReady, verifyAccount } from '../node/identity/signatures.ts';
import { accountRecord, SUPPLY } from '../node/ledger/accounts.ts';
import { Draft } from '../node/ledger/draft.ts';
import { executeBlock, type SignedTransaction } from '../node/ledger/execute.ts';
import { encodeProof, verifyProof } from '../node/ledger/proof.ts';
import { LedgerState } from '../node/ledger/state.ts';
import type { BenchmarkOptions, BenchmarkResult } from './benchmark.ts';
import { summarize } from './measure.ts';

/** One line for the list of benchmarks. */
export const describe = 'applied transfers per second against a plain map, proofs at 10^5 and 10^6 accounts';

const BLOCK_TRANSACTIONS = 500;
const BLOCKS = 20;
const PROOFS = 2000;
const SIGNATURE_CHECKS = 100;
const BALANCE = 10n ** 12n;

const numbered = (name: string, number: number): Hash => domainHash('alice/bench/1', Buffer.from(`${name} ${number}`));
const accountOf = (number: number) => numbered('account', number) as string as AccountId;

/** A state in which that many accounts have one ALICE each. */
function fundedState(accounts: number): LedgerState {
  const parameters = localParameters(10, 100);
  const genesis: Genesis = {
    version: 1,
    name: 'bench',
    timeMs: 1_790_000_000_000,
    message: 'bench',
    preset: {},
    seed: '00'.repeat(32),
    modelRoot: numbered('weights', 0),
    corpus: { manifest: 'b'.repeat(59), trainingShards: 100, heldOutShards: 5, shardTokens: 1000 },
    validators: [
      { address: addressOf(accountOf(0)), sessionKey: numbered('key', 0), certificate: '00'.repeat(64), weight: '10' },
    ],
    parameters: {
      ...parameters,
      consensus: { ...parameters.consensus, maxTransactionsPerBlock: BLOCK_TRANSACTIONS },
    },
  };
  const state = LedgerState.genesis(genesis);
  const draft = new Draft(state);
  for (let number = 0; number < accounts; number++) {
    draft.set(accountRecord(accountOf(number)), { balance: BALANCE, nonce: 0 });
  }
  draft.set(SUPPLY, { ...state.supply, totalIssuance: BALANCE * BigInt(accounts) });
  return new LedgerState(state.tree.with(draft.changes()));
}

/** Encoded blocks of transfers; every account sends at most once. */
function transfers(accounts: number): { from: AccountId; to: AccountId; encoded: Uint8Array }[][] {
  let seed = 1;
  const random = () => {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((seed / 2 ** 32) * accounts);
  };
  return Array.from({ length: BLOCKS }, (_, block) =>
    Array.from({ length: BLOCK_TRANSACTIONS }, (_, index) => {
      const from = accountOf(block * BLOCK_TRANSACTIONS + index);
      const to = accountOf(random());
      const call = transfer(to, amount(10n ** 9n));
      const body = { version: TRANSACTION_VERSION, signer: from, nonce: 0, validUntil: 1000, tip: 0, call };
      return { from, to, encoded: encodeTransaction({ body, signature: new Uint8Array(64) }) };
    }),
  );
}

function decoded(encoded: Uint8Array): SignedTransaction {
  const transaction = decodeTransaction(encoded);
  return { id: transactionId(transaction), transaction };
}

/** Seconds that something takes that does not wait. */
function secondsOf(action: () => void): number {
  const start = performance.now();
  action();
  return (performance.now() - start) / 1000;
}

function proofFigures(state: LedgerState, accounts: number): { bytes: number; proveUs: number; verifyUs: number } {
  const records = Array.from({ length: PROOFS }, (_, index) =>
    accountRecord(accountOf(Math.floor((index * accounts) / PROOFS))),
  );
  const { root } = state;
  const proofs = records.map((record) => state.prove(record));
  const proveS = secondsOf(() => {
    for (const record of records) state.prove(record);
  });
  const verifyS = secondsOf(() => {
    for (const [index, record] of records.entries()) verifyProof(root, record.key, proofs[index]);
  });
  return {
    bytes: summarize(proofs.map((proof) => encodeProof(proof).length)).median,
    proveUs: (proveS / PROOFS) * 1e6,
    verifyUs: (verifyS / PROOFS) * 1e6,
  };
}

/** Measures. */
export async function run({ signal, progress }: BenchmarkOptions): Promise<BenchmarkResult> {
  await signaturesReady();
  progress('a state of 10^5 accounts');
  const small = 100_000;
  const start = fundedState(small);
  void start.root;
  const blocks = transfers(small);
  const ours: number[] = [];
  const baseline: number[] = [];
  const balances = new Map<AccountId, bigint>();
  for (let number = 0; number < small; number++) balances.set(accountOf(number), BALANCE);
  let state = start;
  progress(`${BLOCKS} blocks of ${BLOCK_TRANSACTIONS} transfers`);
  for (const [index, block] of blocks.entries()) {
    signal.throwIfAborted();
    await nextTurn();
    ours.push(
      secondsOf(() => {
        const executed = executeBlock(state, {
          height: index + 1,
          timeMs: state.timeMs + 100n,
          beacon: numbered('beacon', index),
          proposer: accountOf(0),
          transactions: block.map(({ encoded }) => decoded(encoded)),
        });
        if (executed.receipts.some(({ error }) => error !== undefined)) throw new Error('a transfer failed');
        state = executed.state;
        void state.root;
      }),
    );
    baseline.push(
      secondsOf(() => {
        for (const { encoded } of block) {
          const { signer, call } = decoded(encoded).transaction.body;
          if (call.tag !== 'transfer') continue;
          balances.set(signer, (balances.get(signer) ?? 0n) - call.value.amount);
          balances.set(call.value.to, (balances.get(call.value.to) ?? 0n) + call.value.amount);
        }
      }),
    );
  }
  const proofsSmall = proofFigures(state, small);

  progress('signatures');
  const signer = accountSigner(new Uint8Array(32).fill(7));
  const networkId = hashBytes(numbered('network', 0)).slice(0, 8);
  const { transaction } = decoded(blocks[0][0].encoded);
  const message = transactionSignBytes(networkId, transaction.body);
  const signature = signer.sign(message);
  const checkS = secondsOf(() => {
    for (let index = 0; index < SIGNATURE_CHECKS; index++) verifyAccount(signer.account, message, signature);
  });

  signal.throwIfAborted();
  progress('a state of 10^6 accounts');
  const large = 1_000_000;
  const before = process.memoryUsage.rss();
  const many = fundedState(large);
  void many.root;
  const proofsLarge = proofFigures(many, large);
  const perSecond = BLOCK_TRANSACTIONS / summarize(ours).median;
  return {
    figures: {
      tx_per_s: perSecond,
      map_tx_per_s: BLOCK_TRANSACTIONS / summarize(baseline).median,
      map_ratio: summarize(ours).median / summarize(baseline).median,
      signature_checks_per_s: SIGNATURE_CHECKS / checkS,
      tx_bytes: blocks[0][0].encoded.length,
      proof_bytes_1e5: proofsSmall.bytes,
      prove_us_1e5: proofsSmall.proveUs,
      verify_us_1e5: proofsSmall.verifyUs,
      proof_bytes_1e6: proofsLarge.bytes,
      prove_us_1e6: proofsLarge.proveUs,
      verify_us_1e6: proofsLarge.verifyUs,
      rss_growth_mib_1e6: (process.memoryUsage.rss() - before) / 2 ** 20,
    },
    notes: [
      'tx_per_s: decode, execute with fee, conservation, state root; without signatures and without the database',
      'map_tx_per_s: the same transactions decoded and applied to a Map, nothing checked',
      'signature_checks_per_s: sr25519 on one core, what a validator does once for each transaction when it arrives',
    ],
  };
}
