/**
 * `npm run hostile -- [NAME...] [--seed S] [--seconds N] [--rounds N] [--json]`: hostile peers with real sockets against a real node.
 * Without names, all attacks; `npm run hostile -- --list` names them. Exit code 0 when all hold, 1 when one does not,
 * 2 on wrong usage or when the network cannot be started.
 */
import { parseArgs } from 'node:util';
import { Arena } from './arena/arena.ts';
import type { Attack } from './attack.ts';
import { ATTACKS, attackNamed, CONTROL, UnknownAttackError } from './attack-list.ts';
import { type FloodResult, InterruptedError, runFlood } from './flood/flood.ts';
import { type AttackResult, runAttack } from './run-attack.ts';

/** Name of the one that is no attack of a peer, but of a crowd, on a whole network. */
const FLOOD = 'flood';

const USAGE = `usage: npm run hostile -- [NAME...] [--seed S] [--seconds N] [--json]
       npm run hostile -- flood [--seed S] [--rounds N] [--minutes N] [--priced] [--json]
       npm run hostile -- --list

  --seed S      what attackers do by chance, and who they are; default 1
  --seconds N   how long each attack presses; default 8
  --rounds N    with the name flood: training rounds that are measured in each of its two runs; default 8
  --minutes N   with the name flood: longest time of each run once its network is at work; default 6
  --priced      with the name flood: registrations cost work; without it they are free
  --json        one JSON object as the last line of standard output`;

/** Thrown for a flag that makes no sense. */
class UsageError extends Error {
  static readonly code = 'ERR_USAGE';
  readonly code = UsageError.code;
  override readonly name = 'UsageError';
}

function whole(text: string | undefined, fallback: number, name: string): number {
  if (text === undefined) return fallback;
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value) || value < 1)
    throw new UsageError(`--${name} takes a positive whole number, not "${text}"`);
  return value;
}

function listing(): string {
  const lines = ATTACKS.map(({ name, what, answers }) => `  ${name.padEnd(20)} ${what} (${answers})`);
  const flood =
    '200 keys a minute take seats, fill blocks and pool, and prolong rounds (findings 4, 6, 9; only by name)';
  return [...lines, `  ${FLOOD.padEnd(20)} ${flood}`].join('\n');
}

/** Runs one attack in a network of its own: what an earlier one left behind would hide what this one takes. */
async function runAlone(
  attack: Attack,
  options: { readonly seed: number; readonly seconds: number; readonly controlBlocksPerS: number | undefined },
): Promise<AttackResult> {
  const say = (line: string) => console.error(line);
  say(`${attack.name}: ${attack.what}`);
  const arena = await Arena.open({ seed: options.seed, apartMs: attack.apartMs ?? 0 });
  try {
    const result = await runAttack(arena, attack, { ...options, timed: true, say });
    const { lag_p99_ms: lag, lag_own_p99_ms: own, rss_growth_mib: growth, blocks_per_s: blocks } = result;
    say(
      `  ${result.held ? 'held' : 'DOES NOT HOLD'}: lag ${lag} ms (${own} of its own doing), memory +${growth} MiB, ${blocks} blocks/s`,
    );
    for (const line of result.broken) say(`    ${line}`);
    return result;
  } finally {
    await arena.close();
  }
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    options: {
      seed: { type: 'string' },
      seconds: { type: 'string' },
      rounds: { type: 'string' },
      minutes: { type: 'string' },
      priced: { type: 'boolean' },
      list: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
      json: { type: 'boolean' },
    },
    allowPositionals: true,
  });
  if (values.help === true || values.list === true) {
    console.log(values.help === true ? `${USAGE}\n\nattacks:\n${listing()}` : listing());
    return 0;
  }
  const seed = whole(values.seed, 1, 'seed');
  const seconds = whole(values.seconds, 8, 'seconds');
  const rounds = whole(values.rounds, 8, 'rounds');
  const minutes = whole(values.minutes, 6, 'minutes');
  // The flood takes minutes and a network of its own: only when it is asked for by name.
  const named = positionals.filter((name) => name !== FLOOD);
  const chosen = positionals.length === 0 ? ATTACKS : named.map(attackNamed);
  // One run without an attack for each way in which the validators are placed.
  const controls = new Map<number, AttackResult>();
  const attacks: (AttackResult | FloodResult)[] = [];
  for (const attack of chosen) {
    const { apartMs = 0 } = attack;
    let control = controls.get(apartMs);
    if (control === undefined) {
      control = await runAlone({ ...CONTROL, apartMs }, { seed, seconds, controlBlocksPerS: undefined });
      controls.set(apartMs, control);
    }
    attacks.push(await runAlone(attack, { seed, seconds, controlBlocksPerS: control.blocks_per_s ?? 0 }));
  }
  if (positionals.includes(FLOOD)) {
    const say = (line: string) => console.error(line);
    attacks.push(await runFlood({ seed, rounds, minutes, priced: values.priced === true, say }));
  }
  const held = attacks.every((result) => result.held);
  const summary = { attacks, held, control: [...controls.values()], seed, seconds };
  console.log(values.json === true ? JSON.stringify(summary) : `${held ? 'all attacks held' : 'NOT all attacks held'}`);
  return held ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  const { code = '' } = error as NodeJS.ErrnoException;
  const interrupted = code === InterruptedError.code;
  const usage = [UsageError.code, UnknownAttackError.code].includes(code) || code.startsWith('ERR_PARSE_ARGS');
  if (usage) console.error(`${(error as Error).message}\n${USAGE}\n\nattacks:\n${listing()}`);
  else if (!interrupted) console.error(error);
  // As a shell tells of Ctrl-C.
  process.exitCode = interrupted ? 130 : 2;
}
