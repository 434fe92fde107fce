/** `node scoring-peak.ts FOLDER`: scores what FOLDER/work.json says within its budget; prints scores and the most bytes of this process. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createSession } from '../../kernels/session/create-session.ts';
import { accountOf } from './small-session.ts';

const [folder = ''] = process.argv.slice(2);
const { init, round, tokens, submissions } = JSON.parse(readFileSync(join(folder, 'work.json'), 'utf8'));
const session = await createSession({ ...init, streamFolder: join(folder, 'streaming') });
const opened = await session.open(join(folder, 'weights.bin'));
const outcome = await session.score(round, {
  tokens: Int32Array.from(tokens),
  heldOutSequences: 1,
  submissions: Array.from({ length: submissions }, (_, author) => ({
    account: accountOf(author),
    bytes: new Uint8Array(readFileSync(join(folder, `submission-${author}`))),
  })),
});
const root = await session.aggregate(round, [
  { account: accountOf(0), bytes: new Uint8Array(readFileSync(join(folder, 'submission-0'))), weight: 1n },
]);
await session.close();
const peak = Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? 0) * 1024;
console.log(JSON.stringify({ mode: session.memory.mode, opened, root, scores: outcome.scores, peak }));
