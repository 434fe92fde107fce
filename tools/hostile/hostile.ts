/**
 * `npm run hostile -- [NAME...] [--seed S] [--seconds N] [--json]`: hostile peers with real sockets against a real node.
 * Without names, all attacks; `npm run hostile -- --list` names them. Exit code 0 when all hold, 1 when one does not,
 * 2 on wrong usage or when the network cannot be started.
 */
import { parseArgs } from 'node:util';
import { Arena } from './arena/arena.ts';
import type { Attack } from './attack.ts';
import { ATTACKS, attackNamed, CONTROL, UnknownAttackError } from './attack-list.ts';
import { type AttackResult, runAttack } from './run-attack.ts';

const USAGE = `usage: npm run hostile -- [NAME...] [--seed S] [--seconds N] [--json] [--keep-going]
       npm run hostile -- --list

  --seed S      what attackers do by chance, and who they are; default 1
  --seconds N   how long each attack presses; default 8
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
  return ATTACKS.map(({ name, what, answers }) => `  ${name.padEnd(20)} ${what} (${answers})`).join('\n');
}

interface Verdicts {
  readonly results: AttackResult[];
  readonly controls: AttackResult[];
}

/** Runs attacks that share the way the validators are placed, one after the other; a fallen network is set up anew. */
async function runTogether(
  attacks: readonly Attack[],
  apartMs: number,
  { seed, seconds }: { seed: number; seconds: number },
  verdicts: Verdicts,
): Promise<void> {
  let arena: Arena | undefined;
  let control: AttackResult | undefined;
  const say = (line: string) => console.error(line);
  const show = (result: AttackResult) => {
    const { lag_p99_ms: lag, rss_growth_mib: growth, blocks_per_s: blocks } = result;
    say(
      `${result.name}: ${result.held ? 'held' : 'DOES NOT HOLD'}  lag ${lag} ms, memory +${growth} MiB, ${blocks} blocks/s`,
    );
    for (const line of result.broken) say(`    ${line}`);
  };
  try {
    for (const attack of attacks) {
      if (arena === undefined || !arena.alive) {
        await arena?.close();
        say(`starting a network${apartMs > 0 ? ` of validators ${apartMs} ms apart` : ''}`);
        arena = await Arena.open({ seed, apartMs });
        control = await runAttack(arena, CONTROL, { seed, seconds, controlBlocksPerS: undefined, timed: true, say });
        verdicts.controls.push(control);
        show(control);
      }
      say(`${attack.name}: ${attack.what}`);
      const controlBlocksPerS = control?.blocks_per_s ?? 0;
      const result = await runAttack(arena, attack, { seed, seconds, controlBlocksPerS, timed: true, say });
      verdicts.results.push(result);
      show(result);
    }
  } finally {
    await arena?.close();
  }
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    options: {
      seed: { type: 'string' },
      seconds: { type: 'string' },
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
  const chosen = positionals.length === 0 ? ATTACKS : positionals.map(attackNamed);
  const verdicts: Verdicts = { results: [], controls: [] };
  const near = chosen.filter(({ apartMs = 0 }) => apartMs === 0);
  const far = chosen.filter(({ apartMs = 0 }) => apartMs > 0);
  if (near.length > 0) await runTogether(near, 0, { seed, seconds }, verdicts);
  for (const apartMs of new Set(far.map((attack) => attack.apartMs ?? 0))) {
    await runTogether(
      far.filter((attack) => attack.apartMs === apartMs),
      apartMs,
      { seed, seconds },
      verdicts,
    );
  }
  const held = verdicts.results.every((result) => result.held);
  const summary = { attacks: verdicts.results, held, control: verdicts.controls, seed, seconds };
  console.log(values.json === true ? JSON.stringify(summary) : `${held ? 'all attacks held' : 'NOT all attacks held'}`);
  return held ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  const { code = '' } = error as NodeJS.ErrnoException;
  const usage = [UsageError.code, UnknownAttackError.code].includes(code) || code.startsWith('ERR_PARSE_ARGS');
  console.error(usage ? `${(error as Error).message}\n${USAGE}\n\nattacks:\n${listing()}` : error);
  process.exitCode = 2;
}
