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
 * Puts a corpus folder into the blob store and has it announced, the manifest first: who has that is asked for shards as
 * well, so peers can start before the last shard is announced. Returns the CID of the published manifest.
 */
export async function seedCorpus(
  folder: string,
  components: { readonly store: BlobStore; readonly announcer: Announcer },
  { signal }: { signal: AbortSignal },
): Promise<string> {
  const { store, announcer } = components;
  const manifest = await readManifest(folder);
  const { bytes, cid: manifestCid } = await publishedCorpusOf(folder, manifest);
  const cids = [await store.put(bytes, { signal })];
  for (const entry of [...manifest.training, ...manifest.heldOut]) {
    const shard = await readFile(join(folder, entry.file));
    checkShard(shard, manifest, entry);
    cids.push(await store.put(shard, { signal }));
  }
  await store.pin(cids, 'corpus');
  for (const cid of cids) announcer.announce(cid);
  return manifestCid;
}
