/**
 * `node streamed-crash.ts FOLDER WRITES`: applies the round that FOLDER describes and saves it, and kills itself at the given
 * write of the weights; beyond the last one, at the seal, and then at the move to the final name.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { TensorStore } from '../../kernels/checkpoint/tensor-store.ts';
import type { StreamedModelSession } from '../../kernels/session/streamed-session.ts';
import { streamedSession } from './small-session.ts';

const [folder = '', writes = ''] = process.argv.slice(2);
const { round, account } = JSON.parse(readFileSync(join(folder, 'round.json'), 'utf8'));
const bytes = new Uint8Array(readFileSync(join(folder, 'submission')));
const session: StreamedModelSession = await streamedSession(join(folder, 'streaming'));
await session.open(join(folder, 'weights'));

let left = Number(writes);
const { write, seal, moveTo } = TensorStore.prototype;
function die(): void {
  left--;
  if (left === 0) process.kill(process.pid, 'SIGKILL');
}
TensorStore.prototype.write = async function (...call) {
  await write.apply(this, call);
  die();
};
TensorStore.prototype.seal = async function (...call) {
  die();
  const root = await seal.apply(this, call);
  die();
  return root;
};
TensorStore.prototype.moveTo = async function (...call) {
  await moveTo.apply(this, call);
  die();
};
await session.aggregate(round, [{ account, bytes, weight: 1n }]);
await session.save(join(folder, 'weights'), round.round);
console.log('done');
