// time-limit: 300 s
// test-time-limit: 120 s
// alone
/**
 * Four validators as real processes over real sockets; one of them at a time is disturbed. Every time the others go on,
 * the disturbed one is back with them in time, and all agree.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type TestValidator, ValidatorNetwork } from './validator-network.ts';

/** The network is to make progress again within this time (the requirement itself, not a guess about the machine). */
const RECOVERY_MS = 20_000;
/** Four processes that load Node, libp2p and WebAssembly on a busy machine. */
const START_MS = 60_000;

async function disturbed(disturb: (victim: TestValidator, network: ValidatorNetwork) => Promise<void>): Promise<void> {
  const network = await ValidatorNetwork.create(4);
  try {
    await Promise.all(network.validators.map((validator) => validator.start()));
    await network.progress(3, START_MS);
    const [, victim] = network.validators;
    await disturb(victim, network);
    // The victim, too: it caught up, and goes on with the others.
    const fromMs = performance.now();
    await network.progress(3, RECOVERY_MS);
    console.log(`all four made 3 more blocks final ${Math.round(performance.now() - fromMs)} ms later`);
    assert.equal(network.disagreements, [], 'one chain, one state');
  } catch (error) {
    for (const validator of network.validators) console.log((await validator.log()).slice(-3000));
    throw error;
  } finally {
    await network.destroy();
  }
}

const others = (network: ValidatorNetwork, victim: TestValidator) =>
  network.validators.filter((validator) => validator !== victim);

test('disconnect: all connections of one validator end, and none can be made for a while', () =>
  disturbed(async (victim, network) => {
    victim.order('cut');
    await network.progress(2, RECOVERY_MS, others(network, victim));
    const { height } = victim;
    await network.progress(4, RECOVERY_MS, others(network, victim));
    assert.ok(victim.height <= height + 1, 'it was cut off indeed');
    victim.order('mend');
  }));

test('pause: one validator is stopped in the middle and goes on later', () =>
  disturbed(async (victim, network) => {
    victim.signal('SIGSTOP');
    await network.progress(5, RECOVERY_MS, others(network, victim));
    victim.signal('SIGCONT');
  }));

test('kill: one validator is killed and started again', () =>
  disturbed(async (victim, network) => {
    await victim.end('SIGKILL');
    await network.progress(5, RECOVERY_MS, others(network, victim));
    await victim.start();
  }));

test('restart: one validator ends in order and starts again', () =>
  disturbed(async (victim, network) => {
    await victim.end('SIGTERM');
    await network.progress(5, RECOVERY_MS, others(network, victim));
    await victim.start();
  }));

test('byzantine: one of four contradicts itself; evidence is on the chain, its weight is gone, its key is out', async () => {
  const network = await ValidatorNetwork.create(5, { founders: 4 });
  try {
    const [, cheat] = network.validators;
    const late = network.validators[4];
    const honest = others(network, cheat).filter((validator) => validator !== late);
    await Promise.all([
      ...honest.map((validator) => validator.start()),
      cheat.start({ ALICE_TEST_ADVERSARY: 'equivocate' }),
    ]);
    const { account } = cheat.identity;
    const blamed = () => [...network.blocks.values()].filter(({ accused }) => accused.length > 0);
    await network.until('evidence in a block', () => blamed().length > 0, START_MS);
    const [{ height }] = blamed();
    await network.progress(6, RECOVERY_MS, honest);
    assert.equal(
      blamed().map((block) => [block.height, block.accused]),
      [[height, [account]]],
      'once, and nobody else',
    );
    const accountsAfter = (at: number) => network.blocks.get(at)?.validators.map(([member]) => member) ?? [];
    assert.ok(accountsAfter(height).includes(account), 'it still decides the next block');
    assert.not(accountsAfter(height + 1).includes(account), 'and none after that');
    assert.is(accountsAfter(height + 5).length, 3);
    // A newcomer fetches the blocks of both sets, each verified against its own, and follows.
    await late.start();
    await network.progress(2, RECOVERY_MS, [...honest, late]);
    assert.equal(network.disagreements, []);
  } finally {
    await network.destroy();
  }
});

test('two of four gone: nothing becomes final; with one of them back it goes on', () =>
  disturbed(async (victim, network) => {
    const [first] = network.validators;
    const rest = network.validators.slice(2);
    await Promise.all([first.end('SIGKILL'), victim.end('SIGKILL')]);
    const { height } = network;
    await first.start();
    await network.progress(3, RECOVERY_MS, [first, ...rest]);
    assert.ok(network.height >= height + 3);
    await victim.start();
  }));

test.run();
