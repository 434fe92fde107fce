import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Snapshot } from '../../bootstrap/local/snapshot.ts';
import { formatBytes, formatDuration, LineView, renderSnapshot, sparkline } from '../../bootstrap/local/view.ts';

const submission = (address: string, score: number, accepted: boolean, reason = '') => ({
  address,
  score,
  accepted,
  reason,
  sizeBytes: 1000,
});

function snapshot(rounds: Snapshot['rounds'], round = rounds.length + 1): Snapshot {
  return {
    network: 'abcdefghijklm',
    height: 42,
    round,
    phase: 'train',
    epochs: 2,
    totalIssuance: 5_180_000_000_000n,
    rounds,
    bytesSent: 123,
    miners: [
      {
        name: 'miner-1',
        state: 'running',
        address: 'a1',
        lastScore: 0.2345,
        accepted: 3,
        rejected: 1,
        balance: 1_500_000_000_000n,
        activity: 'round 4: inner step 3',
        tokensPerSecond: 3210.4,
        trainingLoss: 6.5,
        bytesSent: 2048,
        bytesReceived: 5 * 1024 * 1024,
        residentBytes: 1,
      },
    ],
    validators: [
      {
        name: 'validator-1',
        state: 'running',
        address: 'v1',
        height: 42,
        stateRoot: 'ab'.repeat(32),
        weightsRound: 3,
        weightsRoot: 'cd'.repeat(32),
        balance: 0n,
        activity: 'waiting for submissions',
        peers: 7,
        bytesSent: 0,
        bytesReceived: 0,
        residentBytes: 1,
      },
    ],
  };
}

test('the picture shows height, round, loss with its curve, and what each miner did and earned', () => {
  const rounds = [8, 7, 6].map((heldOutLoss, index) => {
    return { round: index + 1, heldOutLoss, aggregation: 'updated' as const, submissions: [] };
  });
  const text = renderSnapshot(snapshot(rounds), 65_000, 20, 200).join('\n');
  for (const part of [
    '1m05s',
    'height 42',
    'round 4 of 20',
    '6.000 nats, from 8.000',
    '█▅▁',
    '0.2345',
    '1.5000',
    '3210',
  ]) {
    assert.ok(text.includes(part), `${part} in\n${text}`);
  }
  assert.ok(text.includes('abababab') && text.includes('cdcdcdcd'), 'roots');
});

test('no line is wider than the terminal', () => {
  const lines = renderSnapshot(
    snapshot([{ round: 1, heldOutLoss: 8, aggregation: 'updated' as const, submissions: [] }]),
    0,
    null,
    60,
  );
  assert.ok(lines.every((line) => line.length <= 60));
});

test('a curve: highest value on top, flat for equal ones, the last ones when there are too many', () => {
  assert.is(sparkline([1, 2, 3], 10), '▁▅█');
  assert.is(sparkline([5, 5], 10), '▁▁');
  assert.is(sparkline([9, 1, 2], 2), '▁█');
});

test('lines tell each new round once, with names, scores and reasons, and nothing of earlier runs', () => {
  const lines: string[] = [];
  const view = new LineView((line) => lines.push(line));
  const old = { round: 1, heldOutLoss: 8, aggregation: 'updated' as const, submissions: [] };
  const fresh = {
    round: 2,
    heldOutLoss: 7,
    aggregation: 'open' as const,
    submissions: [submission('a1', 0.1, true), submission('b2', -0.1, false, 'noise')],
  };
  view.update({ ...snapshot([]), round: 0 });
  view.update(snapshot([old], 2));
  assert.equal(lines, []);
  view.update(snapshot([old, fresh], 3));
  view.update(snapshot([old, fresh], 3));
  assert.is(lines.length, 1);
  view.update(snapshot([old, { ...fresh, aggregation: 'failed' }], 3));
  view.update(snapshot([old, { ...fresh, aggregation: 'failed' }], 4));
  assert.is(lines.length, 2);
  assert.match(lines[1], /round 2 .*did not agree on new weights/);
  assert.match(lines[0], /round 2 .*7\.000.*miner-1 0\.1000, b2 -0\.1000 rejected \(noise\)/);
});

test('units for people', () => {
  assert.is(formatBytes(999), '999 B');
  assert.is(formatBytes(1536), '1.5 KiB');
  assert.is(formatBytes(50 * 1024 ** 3), '50 GiB');
  assert.is(formatDuration(59_999), '59s');
  assert.is(formatDuration(61_000), '1m01s');
});

test.run();
