// time-limit: 120 s
/** Joining by a checkpoint and publishing one, in little memory: whole or not at all, and the same bytes as with much. */
import { execFile } from 'node:child_process';
import { mkdir, open, readFile, rm, writeFile } from 'node:fs/promises';
import { platform } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createInitialStore } from '../../kernels/checkpoint/initial-store.ts';
import { TensorFileWriter } from '../../kernels/checkpoint/tensor-file-writer.ts';
import { formatSize } from '../../kernels/engine/memory-plan.ts';
import { parameterCount } from '../../kernels/model/layout.ts';
import { type Preset, parsePreset } from '../../kernels/model/preset.ts';
import { presetHash } from '../../kernels/model/preset-hash.ts';
import { planSession } from '../../kernels/session/create-session.ts';
import { CHUNK_BYTES, type Manifest } from '../../node/blobs/manifest.ts';
import { BLOB_LIMITS, BLOB_PROTOCOL, decodeRequest, encodeOpened, encodePresent, KIND } from '../../node/blobs/wire.ts';
import { SILENT_LOGGER } from '../../node/log/logger.ts';
import { downloadCheckpoint } from '../../roles/replica/checkpoint.ts';
import { sample } from '../blobs/sample.ts';
import { smallPreset } from '../kernels/small-preset.ts';
import { rejection, seed, smallRecipe, withFolder } from '../kernels/small-session.ts';
import { type Cleanup, until, withPeers } from '../network/local-peers.ts';
import { type JoinOrder, type LedgerCheckpoint, startReplica } from './joining.ts';

const CHILD = fileURLToPath(new URL('join-child.ts', import.meta.url));

/** Three chunks. */
const preset = parsePreset({ ...smallPreset, vocabulary: 9000 });
/** Enough for streaming, not for more. */
const memoryBytes = Math.ceil(
  planSession({
    preset,
    recipe: { ...smallRecipe, batchSequences: 1 },
    threads: 1,
    memoryBytes: 1e9,
    streamFolder: '/',
  }).bytes,
);

const NO_CHECKPOINT: LedgerCheckpoint = { cid: '', round: 6, modelRoot: '' };

/** A peer with the weights of {@link seed} as those after round 7, and their checkpoint. */
async function publisher(peers: Cleanup, folder: string, small: boolean) {
  await mkdir(folder, { recursive: true });
  const weightsPath = join(folder, 'weights.bin');
  const store = await createInitialStore(weightsPath, preset, seed);
  await store.seal(7);
  await store.close();
  const start = { preset, checkpoint: NO_CHECKPOINT, bootstrap: [], ...(small ? { memoryBytes } : {}) };
  const peer = await startReplica(peers, 'publisher', start, folder);
  await peer.replica.open();
  const cid = await peer.replica.publish({ signal: AbortSignal.timeout(20_000) });
  return { ...peer, checkpoint: { cid, round: 7, modelRoot: store.root } };
}

async function joinInChild(folder: string, order: JoinOrder, death: string) {
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'join.json'), JSON.stringify(order));
  const child = promisify(execFile)(process.execPath, [CHILD, folder, death], { timeout: 90_000 });
  if (death !== 'never') {
    assert.is(((await rejection(child)) as { signal?: string }).signal, 'SIGKILL', death);
    return undefined;
  }
  const { stdout } = await child;
  return JSON.parse(stdout) as { started: string; root: string; peak: number };
}

test(
  'a checkpoint is the same blob with the weights on disk as in memory, and so is what a joiner has',
  withPeers(async (peers) => {
    await withFolder(async (folder) => {
      const large = await publisher(peers, join(folder, 'large'), false);
      const resident = large.blobs.store;
      const own = await readFile(large.weightsPath);
      await peers.run();
      const { blobs, checkpoint, replica, weightsPath, addresses } = await publisher(
        peers,
        join(folder, 'small'),
        true,
      );
      assert.is(checkpoint.cid, large.checkpoint.cid);
      assert.is(resident === blobs.store, false);
      assert.equal(await readFile(weightsPath), own);
      assert.equal(Buffer.from(await blobs.store.get(checkpoint.cid)), own.subarray(4096));
      assert.is(replica.root, checkpoint.modelRoot);
      for (const small of [false, true]) {
        const at = join(folder, `joiner-${small}`);
        const order = { preset, checkpoint, bootstrap: addresses, ...(small ? { memoryBytes } : {}) };
        const joiner = await startReplica(peers, `joiner ${small}`, order, at);
        const state = await joiner.replica.catchUp({ signal: AbortSignal.timeout(20_000) });
        assert.is(state.checkpoint.cid, checkpoint.cid);
        assert.is(joiner.replica.round, 7);
        assert.is(joiner.replica.root, checkpoint.modelRoot);
        assert.equal(await readFile(joiner.weightsPath), own);
        assert.equal(await joiner.model.open(joiner.weightsPath), { round: 7, modelRoot: checkpoint.modelRoot });
        // What it has it can publish.
        assert.is(await joiner.replica.publish({ signal: AbortSignal.timeout(20_000) }), checkpoint.cid);
      }
    });
  }),
);

test(
  'a provider that sends other bytes is left out; a chunk that the disk lost is fetched again; another root is refused',
  withPeers(async (peers) => {
    await withFolder(async (folder) => {
      const { blobs, checkpoint, addresses } = await publisher(peers, join(folder, 'publisher'), true);
      const manifest = blobs.store.manifest(checkpoint.cid) as Manifest;
      const liar = await peers.started('liar', { bootstrap: addresses });
      let asked = 0;
      await liar.handle(BLOB_PROTOCOL, BLOB_LIMITS, async (request) => {
        if (decodeRequest(request).kind === KIND.open)
          return encodeOpened({ manifest: manifest.encoded, have: undefined, chunk: undefined });
        asked++;
        return encodePresent(sample(CHUNK_BYTES, 99));
      });
      const bootstrap = [...addresses, ...liar.multiaddrs()];
      const order = { preset, checkpoint, bootstrap, memoryBytes };
      const joiner = await startReplica(peers, 'joiner', order, join(folder, 'joiner'));
      await liar.provide(checkpoint.cid, { signal: AbortSignal.timeout(5_000) });
      await until(() => joiner.blobs.store.list().length === 0, 'nothing is there yet');
      await joiner.replica.catchUp({ signal: AbortSignal.timeout(20_000) });
      assert.is(joiner.replica.root, checkpoint.modelRoot);
      assert.equal(joiner.blobs.liars(), asked > 0 ? [liar.peerId] : []);
      assert.ok(asked > 0, 'the liar was asked');
      const weights = { path: joiner.weightsPath, presetHash: presetHash(preset), elements: parameterCount(preset) };
      const before = await readFile(joiner.weightsPath);
      const again = (modelRoot: string) =>
        downloadCheckpoint(
          weights,
          { ...checkpoint, modelRoot } as Parameters<typeof downloadCheckpoint>[1],
          { blobs: joiner.blobs, log: SILENT_LOGGER },
          { signal: AbortSignal.timeout(20_000) },
        );
      // The middle chunk on disk goes bad.
      const file = await open(join(folder, 'joiner', 'blobs', `${checkpoint.cid}.blob`), 'r+');
      await file.write(sample(9, 1), 0, 9, CHUNK_BYTES + 7);
      await file.close();
      const served = blobs.stats().chunksServed;
      await again(checkpoint.modelRoot);
      assert.is(blobs.stats().chunksServed, served + 1);
      assert.equal(await readFile(joiner.weightsPath), before);
      const wrong = await rejection(again('0'.repeat(64)));
      assert.is(wrong.code, 'ERR_DIVERGED');
      assert.match(wrong.message, checkpoint.modelRoot);
      assert.equal(await readFile(joiner.weightsPath), before);
    });
  }),
);

test(
  'a joiner that dies at any point has the old weights or the new ones, and goes on where it was',
  withPeers(async (peers) => {
    await withFolder(async (folder) => {
      const { blobs, checkpoint, addresses, weightsPath } = await publisher(peers, join(folder, 'publisher'), true);
      const order = { preset, checkpoint, bootstrap: addresses, memoryBytes };
      const expected = await readFile(weightsPath);
      for (const [death, mostPulled, found] of [
        ['download:2', 1, 'old'],
        ['copy:2', 0, 'old'],
        ['before', 0, 'old'],
        ['after', 0, 'new'],
      ] as const) {
        const at = join(folder, death.replace(':', '-'));
        await mkdir(at);
        // Weights of other times.
        const old = await createInitialStore(join(at, 'weights.bin'), preset, new Uint8Array(32).fill(9));
        await old.seal(8);
        await old.close();
        const before = await readFile(join(at, 'weights.bin'));
        await joinInChild(at, order, death);
        assert.equal(await readFile(join(at, 'weights.bin')), found === 'old' ? before : expected, death);
        const served = blobs.stats().chunksServed;
        const result = await joinInChild(at, order, 'never');
        assert.is(result?.started, found === 'old' ? '8' : '7');
        assert.is(result?.root, checkpoint.modelRoot);
        assert.equal(await readFile(join(at, 'weights.bin')), expected, death);
        // Requests are made three at a time: all of them may have been answered.
        const pulled = blobs.stats().chunksServed - served;
        assert.ok(pulled <= mostPulled, `${death}: ${pulled} chunks pulled again`);
        await rm(at, { recursive: true });
      }
    });
  }),
);

/** A tensor file of any size, filled with the same few numbers over and over. */
async function fillWeights(path: string, large: Preset): Promise<string> {
  const writer = await TensorFileWriter.create(path);
  const piece = new Uint8Array(Float32Array.from({ length: 2 ** 18 }, (_, i) => (i % 251) / 1000).buffer);
  for (let left = 4 * parameterCount(large); left > 0; left -= piece.length)
    await writer.append(piece.subarray(0, Math.min(left, piece.length)));
  const root = writer.root();
  await writer.finish({ kind: 'weights', round: 7, presetHash: presetHash(large), root });
  return root;
}

test(
  'joining by a large checkpoint takes hardly more memory than by a small one',
  withPeers(async (peers) => {
    if (platform() !== 'linux') return;
    await withFolder(async (folder) => {
      const small = await publisher(peers, join(folder, 'small'), true);
      const order = { preset, checkpoint: small.checkpoint, bootstrap: small.addresses, memoryBytes };
      // Program, network and threads.
      const base = (await joinInChild(join(folder, 'first'), order, 'never'))?.peak ?? 0;
      await peers.run();
      const large = parsePreset({ ...smallPreset, name: 'large', hidden: 512, ffn: 1376, layers: 100 });
      const bytes = 4 * parameterCount(large);
      await mkdir(join(folder, 'large'));
      const modelRoot = await fillWeights(join(folder, 'large', 'weights.bin'), large);
      const budget = { memoryBytes: 300 * 2 ** 20 };
      const start = { preset: large, checkpoint: NO_CHECKPOINT, bootstrap: [], ...budget };
      const { replica, addresses } = await startReplica(peers, 'publisher', start, join(folder, 'large'));
      await replica.open();
      const cid = await replica.publish({ signal: AbortSignal.timeout(60_000) });
      const largeOrder = { preset: large, checkpoint: { cid, round: 7, modelRoot }, bootstrap: addresses, ...budget };
      const joined = await joinInChild(join(folder, 'second'), largeOrder, 'never');
      assert.is(joined?.root, modelRoot);
      const more = (joined?.peak ?? Number.POSITIVE_INFINITY) - base;
      const said = `${formatSize(more)} over ${formatSize(base)}, for weights of ${formatSize(bytes)}`;
      assert.ok(more < 256 * 2 ** 20, said);
      assert.ok(bytes > 4 * 256 * 2 ** 20, said);
    });
  }),
);

test.run();
