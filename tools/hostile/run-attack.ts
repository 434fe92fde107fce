/**
 * Runs one attack in an arena and judges it: what the attack itself claims, and what has to be so under any attack.
 */
import { setPriority } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import { networkName } from '../../node/chain/genesis.ts';
import type { Arena } from './arena/arena.ts';
import { Member } from './arena/arena.ts';
import type { AttackerParent } from './arena/attacker-process.ts';
import type { Attack, AttackSetup, Claim } from './attack.ts';

/** Longest wait of work for the victim's event loop, 99 of 100 moments, in milliseconds. */
export const MAX_LAG_MS = 100;
/** Growth of the victim's resident memory, garbage collected, while everything that the attack opened is open. */
export const MAX_GROWTH_MIB = 64;
/** Share of honest requests that are answered, each within the honest peer's patience (5 s). */
export const MIN_SERVED = 0.95;
/** Blocks in the time, as a share of those without an attack. */
export const MIN_BLOCK_RATE = 0.5;
/** A newcomer has a block and a blob by then; on a machine that is busy with tests, by the later time. */
const NEWCOMER_MS = 20_000;
const BUSY_NEWCOMER_MS = 60_000;
/** An attack that has not ended this long after its time is over hangs. */
const GRACE_MS = 90_000;

/** Attackers are on this machine only here: they get what the others leave of it. */
const ATTACKER_PRIORITY = 10;

/** What became of one attack. Names are part of the tool's output. */
export interface AttackResult {
  readonly name: string;
  readonly held: boolean;
  readonly lag_p99_ms: number | null;
  readonly rss_growth_mib: number | null;
  /** The same, counting only what the victim's thread computed, and as Node counts turns; and the longest turn. */
  readonly lag_own_p99_ms: number | null;
  readonly lag_turns_p99_ms: number | null;
  readonly lag_longest_ms: number | null;
  readonly blocks_per_s: number | null;
  readonly honest: {
    readonly asked: number;
    readonly served: number;
    readonly median_ms: number | null;
    readonly p95_ms: number | null;
    readonly newcomer_ms: number | null;
    readonly transactions: number;
  } | null;
  /** What does not hold, in words. */
  readonly broken: readonly string[];
  readonly claims: readonly Claim[];
}

export interface RunOptions {
  readonly seed: number;
  readonly seconds: number;
  /** Blocks a second without an attack; undefined: this is the run without one. */
  readonly controlBlocksPerS: number | undefined;
  /** True: lag and rates count. Tests leave them out, because machines that run tests are busy. */
  readonly timed: boolean;
  readonly say: (line: string) => void;
}

const round1 = (value: number) => (Number.isFinite(value) ? Math.round(value * 10) / 10 : null);

/** Runs `attack`. Throws only when the arena itself fails. */
export async function runAttack(arena: Arena, attack: Attack, options: RunOptions): Promise<AttackResult> {
  const { seed, seconds, say } = options;
  const newcomerLimitMs = options.timed ? NEWCOMER_MS : BUSY_NEWCOMER_MS;
  const setup: AttackSetup = {
    attack: attack.name,
    seed,
    seconds,
    genesis: arena.genesis,
    networkName: networkName(arena.genesis),
    victim: { port: arena.ports[0], address: arena.address('victim'), peer: arena.victimPeer },
    other: { port: arena.ports[1], address: arena.address('other'), peer: arena.otherPeer },
    cid: arena.cid,
    otherCid: arena.otherCid,
  };
  const pressed = Promise.withResolvers<readonly Claim[]>();
  const released = Promise.withResolvers<void>();
  const offers: Omit<AttackerParent, 'ready'> = {
    look: (who) => (who === 'victim' ? arena.victim : arena.other).ask('look', { collect: false }),
    fetch: (what) => arena.victim.ask('fetch', what),
    regard: async (peer) => ({
      score: await arena.victim.ask('score', peer),
      connected: await arena.victim.ask('connected', peer),
    }),
    enlisted: (account) => arena.victim.ask('enlisted', account),
    newcomer: (limitMs) => arena.honest.ask('newcomer', limitMs),
    observer: ({ bootstrap, limitMs }) => observe(arena, bootstrap, limitMs),
    sizes: (fromHeight) => arena.victim.ask('sizes', fromHeight),
    say: async (line) => say(`  ${line}`),
    pressed: (claims) => {
      pressed.resolve(claims);
      return released.promise;
    },
  };
  const attacker = await Member.start<Record<string, never>>(
    `attacker-${attack.name}`,
    './attacker-process.ts',
    setup,
    `${arena.dir}/attackers`,
    { ...offers },
    (child) => {
      if (child.pid !== undefined) setPriority(child.pid, ATTACKER_PRIORITY);
    },
  );
  try {
    await arena.resetHonest();
    const before = await arena.victim.ask('look', { collect: true });
    await arena.victim.ask('resetLag', null);
    const fromMs = performance.now();
    const gone = new Promise<readonly Claim[]>((resolve) => {
      const claim = (found: string) => resolve([{ what: 'the attack came to its end', holds: false, found }]);
      attacker.child.once('exit', (code, signal) => claim(`the attacker ended early (${code ?? signal})`));
      setTimeout(() => claim('it hangs'), 1000 * seconds + GRACE_MS).unref();
    });
    const newcomer = pause(300 * seconds).then(() => arena.honest.ask('newcomer', newcomerLimitMs));
    newcomer.catch(() => {});
    const own = await Promise.race([pressed.promise, gone]);
    if (!arena.alive) return fallen(attack, own);
    const after = await arena.victim.ask('look', { collect: true });
    const blocksPerS = (1000 * (after.height - before.height)) / (performance.now() - fromMs);
    const newcomerOutcome = await newcomer;
    const newcomerMs = 'ms' in newcomerOutcome ? newcomerOutcome.ms : null;
    const served = await arena.honest.ask('served', null);
    const transactions = arena.transactionTimes.length;
    const failed = arena.transactionFailures.length;
    const blocks = options.timed || (await advances(arena, after.height));
    if (!arena.alive) return fallen(attack, own);
    released.resolve();
    const growthMib = after.residentMib - before.residentMib;
    const { p99Ms, ownP99Ms, turnsP99Ms, longestMs } = after.lag;
    const claims: Claim[] = [
      ...own,
      {
        what: `resident memory grows by less than ${MAX_GROWTH_MIB} MiB`,
        holds: growthMib < MAX_GROWTH_MIB,
        found: `${growthMib.toFixed(1)} MiB, from ${before.residentMib.toFixed(0)}`,
      },
      {
        what: 'a newcomer gets a block and a blob',
        holds: newcomerMs !== null,
        found:
          'ms' in newcomerOutcome
            ? `after ${newcomerOutcome.ms.toFixed(0)} ms`
            : `not within ${newcomerLimitMs} ms: ${newcomerOutcome.code}`,
      },
      {
        what: `${100 * MIN_SERVED} % of honest requests are served`,
        holds: served.asked > 0 && served.served >= MIN_SERVED * served.asked,
        found: `${served.served} of ${served.asked}, ${JSON.stringify(served.failures)}`,
      },
      { what: 'blocks go on', holds: blocks, found: `${blocksPerS.toFixed(2)} a second` },
    ];
    if (options.timed) {
      const least = MIN_BLOCK_RATE * (options.controlBlocksPerS ?? 0);
      claims.push(
        {
          what: `lag of the event loop stays under ${MAX_LAG_MS} ms, 99 moments of 100`,
          holds: p99Ms < MAX_LAG_MS,
          found: `${p99Ms.toFixed(1)} ms, ${ownP99Ms.toFixed(1)} of its own doing, longest turn ${longestMs.toFixed(0)} ms`,
        },
        {
          what: `blocks come at no less than ${100 * MIN_BLOCK_RATE} % of the undisturbed rate`,
          holds: blocksPerS >= least && after.height > before.height,
          found: `${blocksPerS.toFixed(2)} a second, undisturbed ${options.controlBlocksPerS?.toFixed(2) ?? 'the same'}`,
        },
        {
          what: 'honest transactions get into blocks',
          holds: transactions > 0,
          found: `${transactions} did, ${failed} failed ${arena.transactionFailures[0] ?? ''}`,
        },
      );
    }
    const broken = claims.filter(({ holds }) => !holds).map(({ what, found }) => `${what}: ${found}`);
    return {
      name: attack.name,
      held: broken.length === 0,
      lag_p99_ms: round1(p99Ms),
      rss_growth_mib: round1(growthMib),
      lag_own_p99_ms: round1(ownP99Ms),
      lag_turns_p99_ms: round1(turnsP99Ms),
      lag_longest_ms: round1(longestMs),
      blocks_per_s: Math.round(100 * blocksPerS) / 100,
      honest: {
        asked: served.asked,
        served: served.served,
        median_ms: round1(served.medianMs),
        p95_ms: round1(served.p95Ms),
        newcomer_ms: newcomerMs === null ? null : round1(newcomerMs),
        transactions,
      },
      broken,
      claims,
    };
  } finally {
    released.resolve();
    // The rest of the wait keeps nobody: a run that is over ends at once.
    await Promise.race([
      new Promise((done) => attacker.child.once('exit', done)),
      pause(8_000, undefined, { ref: false }),
    ]);
    await attacker.end();
  }
}

/** A node ended: whatever else was measured says nothing. */
function fallen(attack: Attack, own: readonly Claim[]): AttackResult {
  const claims = [...own, { what: 'the nodes live', holds: false, found: 'a node ended' }];
  return {
    name: attack.name,
    held: false,
    lag_p99_ms: null,
    rss_growth_mib: null,
    lag_own_p99_ms: null,
    lag_turns_p99_ms: null,
    lag_longest_ms: null,
    blocks_per_s: null,
    honest: null,
    broken: claims.filter(({ holds }) => !holds).map(({ what, found }) => `${what}: ${found}`),
    claims,
  };
}

/** True once the victim has a block above `height`; false when that takes a minute. */
async function advances(arena: Arena, height: number): Promise<boolean> {
  const limitMs = performance.now() + 60_000;
  while (performance.now() < limitMs) {
    if ((await arena.victim.ask('look', { collect: false })).height > height) return true;
    await pause(200);
  }
  return false;
}

/** See `observer` of ArenaOffers. */
async function observe(arena: Arena, bootstrap: readonly string[], limitMs: number): Promise<number | null> {
  const goal = (await arena.victim.ask('look', { collect: false })).height;
  const observer = await arena.observer(bootstrap);
  try {
    const fromMs = performance.now();
    while (performance.now() - fromMs < limitMs) {
      const { height } = await observer.line.ask('look', { collect: false });
      if (height >= goal) return performance.now() - fromMs;
      await pause(100);
    }
    return null;
  } finally {
    await observer.end();
  }
}
