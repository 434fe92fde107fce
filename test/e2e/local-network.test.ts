// time-limit: 660 s
// test-time-limit: 640 s
// alone
/**
 * The whole thing: real processes over real sockets train, score, agree, mint; some of them are killed; a cheat joins.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { expectedIssuance, type RunSummary } from '../../bootstrap/local/summary.ts';
import { askNode, findEndpoints } from '../../node/api/client.ts';
import type { NodeStatus } from '../../node/api/status.ts';
import { AliceProcess, alice, lastJson } from './alice-process.ts';

const TRAIN = ['--train-seconds', '1'];

async function statuses(dir: string): Promise<NodeStatus[]> {
  const endpoints = await findEndpoints(dir);
  return Promise.all(endpoints.map((endpoint) => askNode<NodeStatus>(endpoint, '/status')));
}

async function pidOf(dir: string, name: string): Promise<number> {
  return JSON.parse(await readFile(join(dir, name, 'node.json'), 'utf8')).pid;
}

const isAlive = (pid: number) => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

test('a network trains, survives kill -9 of members and of everything, and pays nothing for noise', async () => {
  const base = await mkdtemp(join(tmpdir(), 'alice-e2e-'));
  const dir = join(base, 'net');
  const network = join(dir, 'network.json');
  const started: AliceProcess[] = [];
  const start = (...given: ConstructorParameters<typeof AliceProcess>) => {
    const running = new AliceProcess(...given);
    started.push(running);
    return running;
  };
  try {
    // A first run from nothing: it trains, agrees, and mints what the schedule says.
    const first = await alice('up', '--dir', dir, '--rounds', '3', ...TRAIN, '--json');
    assert.is(first.code, 0, first.stderr);
    const summary = lastJson<RunSummary>(first);
    assert.is(summary.rounds, 3);
    assert.ok(summary.roots_agree, 'the validators agree');
    assert.is(summary.minted, summary.issuance_expected);
    assert.ok(BigInt(summary.minted) > 0n, 'an epoch was settled');
    const earned = [...summary.miners, ...summary.validators].reduce(
      (sum, { earned: units }) => sum + BigInt(units),
      0n,
    );
    assert.ok(earned > 0n && earned <= BigInt(summary.minted));
    assert.ok(
      (summary.loss_last ?? 99) < (summary.loss_first ?? 0) - 0.2,
      `${summary.loss_first} -> ${summary.loss_last}`,
    );

    // The same folder again: goes on where it was, from here on with one validator and one miner on another backend than
    // the others (where the native one is built). A cheat joins by hand, knowing the network file only.
    for (const member of ['validator-3', 'miner-2'])
      await writeFile(join(dir, member, 'alice.json'), '{"engine": {"backend": "onnx"}}');
    const second = start(['up', '--dir', dir, '--rounds', '0', ...TRAIN]);
    await second.prints(/round (\d+) is open/, 120_000);
    assert.match(second.output, /round 4 is open/);
    const cheat = start(['miner', '--network', network, '--dir', join(base, 'cheat')], {
      ALICE_TEST_ADVERSARY: 'noise',
    });
    await second.prints(/\n\S* round 5 /, 180_000);

    // One miner and one of four validators die; the others go on without them.
    const victims = [await pidOf(dir, 'miner-1'), await pidOf(dir, 'validator-2')];
    for (const pid of victims) process.kill(pid, 'SIGKILL');
    await second.prints(/validator-2 was ended by SIGKILL/, 10_000);
    await second.prints(/miner-1 was ended by SIGKILL/, 10_000);
    await second.prints(/\n\S* round 7 /, 180_000);
    await second.prints(/validator-2 is back/, 60_000);
    await second.prints(/miner-1 is back/, 60_000);
    await second.prints(/\n\S* round 9 /, 180_000);

    // Noise was submitted, and earned nothing.
    const cheatStatus = (await statuses(join(base, 'cheat')))[0];
    const judged = cheatStatus.training.rounds.flatMap(({ submissions }) =>
      submissions.filter(({ address }) => address === cheatStatus.address),
    );
    // A newcomer whose work is rejected loses its turn for a while.
    assert.ok(judged.length >= 1, `the cheat was judged ${judged.length} times`);
    assert.is(judged.filter(({ accepted }) => accepted).length, 0);
    assert.is(cheatStatus.account.balance, '0');
    const joined = await alice('balance', cheatStatus.address, '--dir', dir, '--json');
    assert.is(lastJson<{ units: string }>(joined).units, '0');

    // Everything dies at once; nothing that was final is lost.
    const before = (await statuses(dir)).filter(({ role }) => role === 'validator');
    const pids = (await statuses(dir)).map(({ pid }) => pid);
    for (const pid of [second.child.pid ?? 0, ...pids]) process.kill(pid, 'SIGKILL');
    await second.finished;
    cheat.kill('SIGINT');
    assert.is((await cheat.finished).code, 0, cheat.output);
    assert.match(
      await readFile(join(dir, 'validator-3', 'alice.log'), 'utf8'),
      /computing on cpu with onnxruntime in fp32/,
    );
    const third = await alice('up', '--dir', dir, '--rounds', '1', ...TRAIN, '--json');
    assert.is(third.code, 0, third.stderr);
    const last = lastJson<RunSummary>(third);
    assert.ok(last.roots_agree, 'the validators agree after the crash');
    assert.ok(last.height > Math.max(...before.map(({ chain }) => chain.height)));
    assert.is(last.minted, last.issuance_expected);
    assert.is(last.validators.length, 4);
    assert.not(pids.some(isAlive), 'no process is left behind');
  } finally {
    // A network whose `alice up` is killed ends by itself; the folder can go once the last process has let go of it.
    for (const running of started) running.kill('SIGKILL');
    await Promise.all(started.map((running) => running.finished));
    await rm(base, { recursive: true, force: true, maxRetries: 50, retryDelay: 200 });
  }
});

test('the schedule by hand: years 0 to 2 and the halving', () => {
  const unit = 1_000_000_000_000n;
  const year = 31_536_000_000n;
  assert.is(expectedIssuance(year), 5_250_000n * unit);
  assert.is(expectedIssuance(3n * year), 13_125_000n * unit);
  assert.is(expectedIssuance(1000n), (5_250_000n * unit) / 31_536_000n);
  assert.ok(expectedIssuance(1000n * year) <= 21_000_000n * unit);
});

test.run();
