// time-limit: 300 s
// test-time-limit: 120 s
// alone
/**
 * Some of `npm run hostile`, each for a moment: what attackers do is refused, dropped or borne, a newcomer and honest
 * peers are served meanwhile, blocks go on, memory is bounded. Times are left to the tool: a machine that runs tests is busy.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Arena } from '../../tools/hostile/arena/arena.ts';
import { waitOfMoments } from '../../tools/hostile/arena/event-loop-lag.ts';
import { ATTACKS } from '../../tools/hostile/attack-list.ts';
import { runAttack } from '../../tools/hostile/run-attack.ts';

/** How long each presses. */
const SECONDS = 1;

function hostile(...args: readonly string[]) {
  const tool = fileURLToPath(new URL('../../tools/hostile/hostile.ts', import.meta.url));
  return spawnSync(process.execPath, [tool, ...args], { encoding: 'utf8' });
}

let arena: Arena | undefined;

test.before(async () => {
  arena = await Arena.open({ seed: 1, apartMs: 0 });
});

test.after(async () => {
  await arena?.close();
});

for (const attack of ATTACKS.filter(({ quick, apartMs = 0 }) => quick && apartMs === 0)) {
  test(`${attack.name}: ${attack.what}`, async () => {
    const options = { seed: 1, seconds: SECONDS, controlBlocksPerS: undefined, timed: false, say: () => {} };
    const result = await runAttack(arena!, attack, options);
    assert.equal(result.broken, []);
  });
}

test('lag counts moments, not turns: one stall of 3 s in 10 s is a wait of seconds', () => {
  const calm = Array.from({ length: 700 }, () => 0);
  assert.is(waitOfMoments(calm, 0.99) < 1e-6, true);
  const stalled = waitOfMoments([...calm, 3_000], 0.99);
  assert.ok(stalled > 2_800 && stalled < 3_000, String(stalled));
});

test('wrong usage is told, with the attacks there are; each has one name', () => {
  const none = hostile('no-such-attack');
  assert.is(none.status, 2);
  assert.match(none.stderr, /silent-streams/);
  assert.is(hostile('--seed', 'x').status, 2);
  const listed = hostile('--list');
  assert.is(listed.status, 0);
  for (const { name } of ATTACKS) assert.match(listed.stdout, name);
  assert.is(new Set(ATTACKS.map(({ name }) => name)).size, ATTACKS.length);
});

test.run();
