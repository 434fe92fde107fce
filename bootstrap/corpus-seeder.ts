/**
 * The corpus as blobs: what a bootstrap node serves until others have fetched it.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { encodePublishedCorpus } from '../corpus/publication.ts';
import { checkShard, type Manifest, readManifest, type ShardEntry } from '../corpus/shard/manifest.ts';
import type { BlobExchange } from '../node/blobs/exchange.ts';
import { blobCid } from '../node/blobs/manifest.ts';
import type { Logger } from '../node/log/logger.ts';
import { pause } from '../roles/pause.ts';

/** Pause before records are offered again to a network that nobody has joined yet. */
const PROVIDE_RETRY_MS = 500;

/**
 * Pause between two records. Who looks for a shard also asks those who announced the manifest, so nothing waits for the
 * single records; they only spread the load later, and must not compete with a network that is just starting.
 */
const PROVIDE_PAUSE_MS = 1000;

/** The publication of a corpus folder: its bytes and their CID. Reads every shard once. */
export async function publishedCorpusOf(
  folder: string,
  manifest: Manifest,
): Promise<{ bytes: Uint8Array; cid: string }> {
  const cids = async (entries: readonly ShardEntry[]) => {
    const list: string[] = [];
    for (const entry of entries) list.push(blobCid(await readFile(join(folder, entry.file))));
    return list;
  };
  const bytes = encodePublishedCorpus({
    manifest,
    training: await cids(manifest.training),
    heldOut: await cids(manifest.heldOut),
  });
  return { bytes, cid: blobCid(bytes) };
}

/**
 * Puts a corpus folder into the blob store and announces it. The manifest is announced first: who has it is asked for
 * shards as well, so peers can start before the last shard is announced. Returns once all is stored; announcing goes on
 * until it succeeded or the signal aborts.
 */
export async function seedCorpus(
  folder: string,
  components: { readonly blobs: BlobExchange; readonly log: Logger },
  { signal }: { signal: AbortSignal },
): Promise<{ readonly manifestCid: string; readonly announced: Promise<void> }> {
  const { blobs, log } = components;
  const manifest = await readManifest(folder);
  const { bytes, cid: manifestCid } = await publishedCorpusOf(folder, manifest);
  const cids = [await blobs.store.put(bytes, { signal })];
  for (const entry of [...manifest.training, ...manifest.heldOut]) {
    const shard = await readFile(join(folder, entry.file));
    checkShard(shard, manifest, entry);
    cids.push(await blobs.store.put(shard, { signal }));
  }
  await blobs.store.pin(cids, 'corpus');
  return { manifestCid, announced: announceAll(blobs, cids, log, signal) };
}

async function announceAll(
  blobs: BlobExchange,
  cids: readonly string[],
  log: Logger,
  signal: AbortSignal,
): Promise<void> {
  for (const cid of cids) {
    while (!signal.aborted) {
      try {
        await blobs.provide(cid, { signal });
        await pause(PROVIDE_PAUSE_MS, signal);
        break;
      } catch (error) {
        log.debug({ cid, error: (error as Error).message }, 'nobody takes the provider record yet');
        await pause(PROVIDE_RETRY_MS, signal);
      }
    }
  }
  log.info({ blobs: cids.length }, 'the corpus is announced');
}
