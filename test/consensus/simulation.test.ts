// time-limit: 420 s
// test-time-limit: 400 s
/**
 * Seeded simulations of whole networks with faults. A seed that fails is replayed with
 * `npm run sim -- --seeds 1 --seed S --log`.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { simulate } from '../simulation/simulation.ts';

const SEEDS = 200;

/** What the seeds have to contain, or they do not test what they say. */
const KINDS = [
  ...['lost', 'duplicated', 'delayed', 'reordered', 'cut', 'partitions', 'crashes', 'tornTails', 'skewedClocks'],
  ...['twins', 'silent', 'amnesia', 'equivocations', 'evidenceCommitted', 'joins', 'leaves', 'powerChanges'],
  ...['forgers', 'forgedBodies', 'silentSyncPeers', 'slowSyncPeers', 'lyingSyncPeers', 'vainQuestions'],
];

test(`safety always, progress after healing: ${SEEDS} seeds`, async () => {
  const { stackTraceLimit } = Error;
  // Traces of the many expected errors would take a tenth of the time.
  Error.stackTraceLimit = 0;
  const faults: Record<string, number> = {};
  try {
    for (let seed = 1; seed <= SEEDS; seed++) {
      const result = await simulate(seed);
      assert.equal(result.violations, [], `seed ${seed}`);
      assert.not(result.stalled, `seed ${seed}: no progress after healing`);
      for (const [kind, count] of Object.entries(result.faults)) faults[kind] = (faults[kind] ?? 0) + count;
    }
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
  console.log(`faults: ${JSON.stringify(faults)}`);
  for (const kind of KINDS) assert.ok((faults[kind] ?? 0) > 0, `no ${kind}`);
});

test('a seed gives the same run every time', async () => {
  for (const seed of [3, 7]) assert.equal(await simulate(seed), await simulate(seed));
});

test.run();
