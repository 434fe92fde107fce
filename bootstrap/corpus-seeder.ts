/**
 * The corpus as blobs: what a bootstrap node serves until others have fetched it.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { encodePublishedCorpus } from '../corpus/publication.ts';
import { checkShard, type Manifest, readManifest, type ShardEntry } from '../corpus/shard/manifest.ts';
import type { Announcer } from '../node/blobs/announcer.ts';
import { blobCid } from '../node/blobs/manifest.ts';
import type { BlobStore } from '../node/blobs/store.ts';

/** Thrown when the corpus folder is not the one that genesis names. */
export class OtherCorpusError extends Error {
  static readonly code = 'ERR_OTHER_CORPUS';
  readonly code = OtherCorpusError.code;
  override readonly name = 'OtherCorpusError';
}

/**
 * The publication of a corpus folder: its bytes, their CID, and the CIDs of the shards. Reads every shard once. Throws the
 * signal's reason.
 */
export async function publishedCorpusOf(
  folder: string,
  manifest: Manifest,
  { signal }: { readonly signal?: AbortSignal } = {},
): Promise<{ bytes: Uint8Array; cid: string; training: string[]; heldOut: string[] }> {
  const cids = async (entries: readonly ShardEntry[]) => {
    const list: string[] = [];
    for (const entry of entries) {
      signal?.throwIfAborted();
      list.push(blobCid(await readFile(join(folder, entry.file))));
    }
    return list;
  };
  const training = await cids(manifest.training);
  const heldOut = await cids(manifest.heldOut);
  const bytes = encodePublishedCorpus({ manifest, training, heldOut });
  return { bytes, cid: blobCid(bytes), training, heldOut };
}

/**
 * Puts a corpus folder into the blob store and has it announced, the manifest first: who has that is asked for shards as
 * well, so peers can start before the last shard is announced. `expected` is the CID of the published manifest that
 * genesis names; throws {@link OtherCorpusError} when it is another, before anything is stored.
 */
export async function seedCorpus(
  folder: string,
  components: { readonly store: BlobStore; readonly announcer: Announcer },
  { expected, signal }: { expected: string; signal: AbortSignal },
): Promise<void> {
  const { store, announcer } = components;
  const manifest = await readManifest(folder);
  const { bytes, cid: manifestCid, training, heldOut } = await publishedCorpusOf(folder, manifest, { signal });
  if (manifestCid !== expected) {
    throw new OtherCorpusError(
      `the shards in ${folder} are not those of this network: give the folder they were built in`,
    );
  }
  const shardCids = [...training, ...heldOut];
  const cids = [manifestCid, ...shardCids];
  // Before the first one is stored: a corpus that does not fit must fail, not push its own first shards out.
  await store.pin(cids, 'corpus');
  if (!store.has(manifestCid)) await store.put(bytes, { signal });
  for (const [index, entry] of [...manifest.training, ...manifest.heldOut].entries()) {
    signal.throwIfAborted();
    if (store.has(shardCids[index])) continue;
    const shard = await readFile(join(folder, entry.file));
    checkShard(shard, manifest, entry);
    await store.put(shard, { signal });
  }
  for (const cid of cids) announcer.announce(cid);
}
