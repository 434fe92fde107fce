/**
 * Consensus among 4, 16, 64 and 100 validators with real ed25519 signatures, 50 ms from anyone to anyone. Virtual time
 * with real processor time in it: `consensus/machines.ts` says how.
 */
import { signaturesReady } from '../node/identity/signatures.ts';
import type { BenchmarkOptions, BenchmarkResult } from './benchmark.ts';
import { BENCH_NETWORK_ID, runCluster, TRANSACTION_CPU_SHARE } from './consensus/cluster.ts';
import { makeTransactions } from './consensus/transactions.ts';

/** One line for the list of benchmarks. */
export const describe = 'block interval, transactions per second and CPU per block of 4 to 100 validators';

/** Validators, and blocks measured: the cost of a block grows with their square. */
const SIZES = [
  { n: 4, blocks: 20 },
  { n: 16, blocks: 12 },
  { n: 64, blocks: 6 },
  { n: 100, blocks: 4 },
];

/** Enough for the longest run. */
const TRANSACTIONS = 3000;

const rounded = (value: number, digits: number) => Number(value.toFixed(digits));

/** Measures. */
export async function run({ signal, progress }: BenchmarkOptions): Promise<BenchmarkResult> {
  await signaturesReady();
  progress(`${TRANSACTIONS} transactions of each size`);
  const small = makeTransactions(BENCH_NETWORK_ID, 250, TRANSACTIONS);
  const large = makeTransactions(BENCH_NETWORK_ID, 1024, TRANSACTIONS);
  const by_validators = [];
  let laterRounds = 0;
  for (const { n, blocks } of SIZES) {
    progress(`${n} validators`);
    const empty = await runCluster({ validators: n, blocks, supply: undefined }, signal);
    const ofSmall = await runCluster({ validators: n, blocks, supply: small }, signal);
    const ofLarge = await runCluster({ validators: n, blocks, supply: large }, signal);
    laterRounds += empty.laterRounds + ofSmall.laterRounds + ofLarge.laterRounds;
    by_validators.push({
      n,
      block_s: rounded(ofSmall.blockSeconds, 4),
      tx_per_s_250b: rounded(ofSmall.transactionsPerSecond, 1),
      tx_per_s_1kib: rounded(ofLarge.transactionsPerSecond, 1),
      cpu_ms_per_block: rounded(ofSmall.cpuMsPerBlock, 2),
      empty_block_s: rounded(empty.blockSeconds, 4),
      empty_cpu_ms_per_block: rounded(empty.cpuMsPerBlock, 2),
    });
  }
  return {
    figures: {
      by_validators,
      verify_ms_per_tx: rounded(small.verifyMs, 3),
      offered_tx_per_s: rounded((1000 * TRANSACTION_CPU_SHARE) / small.verifyMs, 0),
      later_rounds: laterRounds,
    },
    notes: [
      'one thread, virtual time: each validator is a machine with one core, busy for the processor time that its events really took; messages take 50 ms; bandwidth is not limited; everyone hears everyone directly (gossip would add hops)',
      `transactions are offered at the rate whose sr25519 verification takes ${TRANSACTION_CPU_SHARE * 100} % of a core; each is verified once for real and its cost charged to every machine`,
      'real: engine, ed25519 signing and verifying by every validator, block hashing, decoding; not: ledger execution (bench -- ledger), the beacon proof (2 ms a block), disk (1 ms virtual for each synced write)',
      'block_s and cpu_ms_per_block: under the load of 250-byte transactions; empty_*: without transactions',
    ],
  };
}
