/**
 * `npm run vectors -- DIR... [--json]`: replays any folder laid out like the shared vectors. Knows `*.itf.json[.gz]`
 * (traces of the consensus model) and the cases of tendermint-rs's light client; files of no form known here are counted
 * as skipped. Where the core does at once what the model's driver does with its next input, the difference is right, and
 * counted under `known_differences` by the line of the paper. Exit code 0 when all agree, 1 otherwise, 2 on wrong usage.
 */
import { existsSync, globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { KNOWN_DIFFERENCES, type KnownDifference, type ReplayResult, replayTrace } from './consensus-itf.ts';
import { replayLightClient } from './light-client.ts';

/** Undefined when the file has no form known here. */
async function replay(path: string): Promise<ReplayResult | undefined> {
  if (/\.itf\.json(\.gz)?$/.test(path)) return replayTrace(path);
  return path.endsWith('.json') ? replayLightClient(path, JSON.parse(readFileSync(path, 'utf8'))) : undefined;
}

async function main(): Promise<number> {
  let folders: string[];
  let json: boolean | undefined;
  try {
    const { values, positionals } = parseArgs({ allowPositionals: true, options: { json: { type: 'boolean' } } });
    [folders, json] = [positionals, values.json];
  } catch (error) {
    console.error((error as Error).message);
    return 2;
  }
  const missing = folders.find((folder) => !existsSync(folder));
  if (folders.length === 0 || missing !== undefined) {
    console.error(missing === undefined ? 'usage: npm run vectors -- DIR... [--json]' : `${missing} does not exist`);
    return 2;
  }
  const known: Record<KnownDifference, number> = { L22: 0, L28: 0 };
  const totals = { files: 0, steps: 0, mismatches: 0, skipped: 0, known_differences: known };
  for (const folder of folders) {
    for (const name of globSync('**/*.{json,json.gz}', { cwd: folder }).sort()) {
      try {
        const result = await replay(join(folder, name));
        if (result === undefined) {
          totals.skipped += 1;
          continue;
        }
        const { steps, mismatches, known: met = {} } = result;
        totals.files += 1;
        totals.steps += steps;
        totals.mismatches += mismatches.length;
        for (const line of ['L22', 'L28'] as const) known[line] += met[line] ?? 0;
        for (const mismatch of mismatches.slice(0, 3)) console.error(`${name}: ${mismatch}`);
      } catch (error) {
        totals.files += 1;
        totals.mismatches += 1;
        console.error(`${name}: ${(error as Error).message}`);
      }
    }
  }
  for (const line of ['L22', 'L28'] as const)
    if (known[line] > 0) console.error(`known difference ${line}, ${known[line]} times: ${KNOWN_DIFFERENCES[line]}`);
  console.log(json ? JSON.stringify(totals) : totals);
  return totals.mismatches > 0 ? 1 : 0;
}

process.exitCode = await main();
