/**
 * `npm run vectors -- DIR... [--json]`: replays any folder laid out like the shared vectors. Knows `*.itf.json[.gz]`
 * (traces of the consensus model) and the cases of tendermint-rs's light client; files of no form known here are counted
 * as skipped. Exit code 0 when all agree, 1 otherwise, 2 on wrong usage.
 */
import { existsSync, globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type ReplayResult, replayTrace } from './consensus-itf.ts';
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
  const totals = { files: 0, steps: 0, mismatches: 0, skipped: 0 };
  for (const folder of folders) {
    for (const name of globSync('**/*.{json,json.gz}', { cwd: folder }).sort()) {
      try {
        const result = await replay(join(folder, name));
        if (result === undefined) {
          totals.skipped += 1;
          continue;
        }
        const { steps, mismatches } = result;
        totals.files += 1;
        totals.steps += steps;
        totals.mismatches += mismatches.length;
        for (const mismatch of mismatches.slice(0, 3)) console.error(`${name}: ${mismatch}`);
      } catch (error) {
        totals.files += 1;
        totals.mismatches += 1;
        console.error(`${name}: ${(error as Error).message}`);
      }
    }
  }
  console.log(json ? JSON.stringify(totals) : totals);
  return totals.mismatches > 0 ? 1 : 0;
}

process.exitCode = await main();
