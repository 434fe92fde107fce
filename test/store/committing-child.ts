/**
 * Commits blocks to a store until it kills itself with SIGKILL at the write it was told: for the crash test.
 *
 *     node committing-child.ts PATH POINT SKIP
 *
 * POINT: name of a write point. SKIP: how often that point is passed before. Prints the height after each commit.
 */
import { writeSync } from 'node:fs';
import { advance, chainGenesis, openChain, signed, testSigner } from '../blockchain/harness.ts';
import { register, transferCall } from '../ledger/harness.ts';

const [path, point, skip] = process.argv.slice(2);
let left = Number(skip);
const { chain } = openChain(path, chainGenesis(), (reached) => {
  if (reached !== point) return;
  if (left === 0) process.kill(process.pid, 'SIGKILL');
  left -= 1;
});
for (;;) {
  const signer = testSigner(chain.height % 5);
  await chain.submit(signed(chain, signer, chain.height < 5 ? register() : transferCall(testSigner(9).account, 1n)));
  await advance(chain);
  writeSync(1, `${chain.height}\n`);
}
