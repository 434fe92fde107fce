/**
 * `npm run vectors -- DIR... [--json]`: replays any folder laid out like the shared vectors. Knows `*.itf.json[.gz]`
 * (traces of the consensus model); other files are counted as skipped. Exit code 0 when all agree, 1 otherwise, 2 on
 * wrong usage.
 */
import { existsSync, globSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { replayTrace } from './consensus-itf.ts';

function main(): number {
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
      if (!/\.itf\.json(\.gz)?$/.test(name)) {
        totals.skipped += 1;
        continue;
      }
      totals.files += 1;
      try {
        const { steps, mismatches } = replayTrace(join(folder, name));
        totals.steps += steps;
        totals.mismatches += mismatches.length;
        for (const mismatch of mismatches.slice(0, 3)) console.error(`${name}: ${mismatch}`);
      } catch (error) {
        totals.mismatches += 1;
        console.error(`${name}: ${(error as Error).message}`);
      }
    }
  }
  console.log(json ? JSON.stringify(totals) : totals);
  return totals.mismatches > 0 ? 1 : 0;
}

process.exitCode = main();
