/**
 * Commits blocks to a store until it kills itself with SIGKILL at the write it was told: for the crash test.
 *
 *     node committing-child.ts PATH POINT SKIP
 *
 * POINT: name of a write point. SKIP: how often that point is passed before. Prints the height after each commit.
 */
import { writeSync } from 'node:fs';
import { voteParameters } from '../../node/chain/calls.ts';
import { advance, chainGenesis, openChain, PROPOSER, signed } from '../blockchain/harness.ts';

const [path, point, skip] = process.argv.slice(2);
let left = Number(skip);
const { chain } = openChain(path, chainGenesis(), (reached) => {
  if (reached !== point) return;
  if (left === 0) process.kill(process.pid, 'SIGKILL');
  left -= 1;
});
for (;;) {
  // Each block changes something.
  const change = voteParameters({ economics: { vestingMs: chain.height + 1 } }, chain.height + 2);
  await chain.submit(signed(chain, PROPOSER, change));
  await advance(chain);
  writeSync(1, `${chain.height}\n`);
}
