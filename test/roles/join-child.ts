/**
 * `node join-child.ts FOLDER DEATH`: joins by the checkpoint that FOLDER/join.json names, as a peer with little memory.
 * Prints the root of its weights and the most bytes that this process ever had (Linux). DEATH is when it kills itself:
 * `never`, `download:N` or `copy:N` at the Nth chunk, `before` or `after` the new weights take their name.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { TensorFileWriter } from '../../kernels/checkpoint/tensor-file-writer.ts';
import { BlobStore } from '../../node/blobs/store.ts';
import { Cleanup } from '../network/local-peers.ts';
import { type JoinOrder, startReplica } from './joining.ts';

const [folder = '', death = ''] = process.argv.slice(2);
const [when, number = '1'] = death.split(':');
let left = Number(number);
function die(at: string): void {
  if (at !== when) return;
  left--;
  if (left === 0) process.kill(process.pid, 'SIGKILL');
}
const { writeChunk } = BlobStore.prototype;
BlobStore.prototype.writeChunk = async function (...call) {
  const complete = await writeChunk.apply(this, call);
  die('download');
  return complete;
};
const { append, finish } = TensorFileWriter.prototype;
TensorFileWriter.prototype.append = async function (...call) {
  await append.apply(this, call);
  die('copy');
};
TensorFileWriter.prototype.finish = async function (...call) {
  die('before');
  await finish.apply(this, call);
  die('after');
};

const order: JoinOrder = JSON.parse(readFileSync(join(folder, 'join.json'), 'utf8'));
const peers = new Cleanup();
const { replica, model, weightsPath } = await startReplica(peers, 'joiner', order, folder);
// What the node found at its start; where it finds nothing it makes initial weights, which takes long.
const found = await model.open(weightsPath);
if (found !== undefined) await replica.open();
const started = found === undefined ? 'nothing' : String(found.round);
await replica.catchUp({ signal: AbortSignal.timeout(60_000) });
const root = replica.root;
await peers.run();
const peak = Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? 0) * 1024;
console.log(JSON.stringify({ started, root, peak }));
