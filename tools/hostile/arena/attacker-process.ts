/** The attacker: runs one attack and reports what it claims. `node attacker-process.ts SETUP`. */
import { networkId } from '../../../node/chain/genesis.ts';
import type { ArenaOffers, AttackContext, AttackSetup, Claim } from '../attack.ts';
import { attackNamed } from '../attack-list.ts';
import { SeededRandom } from '../attacker/random.ts';
import { ProcessLine } from './process-line.ts';

/** What an attacker process asks of the process that started it, beside what an attack does. */
export interface AttackerParent extends ArenaOffers {
  /** The attack is at its height: everything that it opened is open. Resolves when the victim has been looked at. */
  pressed(claims: readonly Claim[]): Promise<void>;
  ready(nothing: null): Promise<void>;
}

// Attackers do everything wrong, and what is done to them in return is no failure of theirs.
process.on('uncaughtException', () => {});
process.on('unhandledRejection', () => {});
process.once('disconnect', () => process.exit(1));

const setup = JSON.parse(process.argv[2] ?? '') as AttackSetup;
const arena = new ProcessLine<AttackerParent>(process, {});
const attack = attackNamed(setup.attack);
const stops: (() => Promise<unknown> | unknown)[] = [];
await arena.ask('ready', null);
let endMs: number | undefined;
const context: AttackContext = {
  ...setup,
  networkId: networkId(setup.genesis),
  random: new SeededRandom(`${setup.attack}/${setup.seed}`),
  // The same line, of which an attack sees a part.
  arena: arena as unknown as ProcessLine<ArenaOffers>,
  pressing: () => {
    // From when it is first asked: what an attack prepares before does not count.
    endMs ??= performance.now() + 1000 * setup.seconds;
    return performance.now() < endMs;
  },
  afterwards: (stop) => stops.push(stop),
};
let claims: readonly Claim[];
try {
  claims = await attack.run(context);
} catch (error) {
  claims = [{ what: 'the attack could be carried out', holds: false, found: (error as Error).stack ?? String(error) }];
}
await arena.ask('pressed', claims);
for (const stop of stops.reverse()) await Promise.race([stop(), new Promise((done) => setTimeout(done, 3_000))]);
process.exit(0);
