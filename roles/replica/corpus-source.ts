/**
 * Token shards as a role reads them: found through the DHT by the manifest that genesis names, checked, kept on disk by
 * the blob store and in memory in small number.
 */
import { type PublishedCorpus, parsePublishedCorpus } from '../../corpus/publication.ts';
import { checkShard, MAX_MANIFEST_BYTES } from '../../corpus/shard/manifest.ts';
import { MAX_SHARD_BYTES, type Shard } from '../../corpus/shard/shard.ts';
import type { Announcer } from '../../node/blobs/announcer.ts';
import type { BlobExchange } from '../../node/blobs/exchange.ts';
import type { Genesis } from '../../node/chain/genesis.ts';

/** Which part of the corpus a shard belongs to. */
export type ShardSource = 'training' | 'heldOut';

/** Decoded shards kept in memory; a round touches `shardsPerMiner` or a few dozen scoring shards. */
const MAX_SHARDS_IN_MEMORY = 64;

/** Thrown when the published corpus is not the one that genesis describes. */
export class CorpusMismatchError extends Error {
  static readonly code = 'ERR_CORPUS_MISMATCH';
  readonly code = CorpusMismatchError.code;
  override readonly name = 'CorpusMismatchError';
}

export class CorpusSource {
  readonly #genesis: Genesis;
  readonly #blobs: BlobExchange;
  readonly #announcer: Announcer;
  #published: Promise<PublishedCorpus> | undefined;
  readonly #shards = new Map<string, Shard>();

  constructor(init: { genesis: Genesis; blobs: BlobExchange; announcer: Announcer }) {
    this.#genesis = init.genesis;
    this.#blobs = init.blobs;
    this.#announcer = init.announcer;
  }

  /** The published manifest, fetched once. Throws {@link CorpusMismatchError} when it contradicts genesis. */
  async published({ signal }: { signal: AbortSignal }): Promise<PublishedCorpus> {
    this.#published ??= this.#fetchManifest(signal);
    try {
      return await this.#published;
    } catch (error) {
      this.#published = undefined;
      throw error;
    }
  }

  async #fetchManifest(signal: AbortSignal): Promise<PublishedCorpus> {
    const { corpus } = this.#genesis;
    const bytes = await this.#blobs.fetch(corpus.manifest, { maxBytes: MAX_MANIFEST_BYTES, signal });
    const published = parsePublishedCorpus(bytes);
    if (
      published.training.length !== corpus.trainingShards ||
      published.heldOut.length !== corpus.heldOutShards ||
      published.manifest.shardTokens !== corpus.shardTokens
    ) {
      throw new CorpusMismatchError('the published corpus manifest has other shards than the genesis says');
    }
    // Whoever holds shards can be found by the manifest, also when the one that seeded them is gone.
    this.#announcer.announce(corpus.manifest);
    return published;
  }

  /** One shard, decoded and checked against the vocabulary and size of the manifest. */
  async shard(source: ShardSource, index: number, { signal }: { signal: AbortSignal }): Promise<Shard> {
    const key = `${source}/${index}`;
    const held = this.#shards.get(key);
    if (held !== undefined) return held;
    const published = await this.published({ signal });
    const entry = published.manifest[source][index];
    if (entry === undefined) throw new CorpusMismatchError(`no ${source} shard ${index} in the corpus manifest`);
    const bytes = await this.#blobs.fetch(published[source][index], {
      maxBytes: MAX_SHARD_BYTES,
      providersOf: [this.#genesis.corpus.manifest],
      signal,
    });
    const shard = checkShard(bytes, published.manifest, entry);
    if (this.#shards.size >= MAX_SHARDS_IN_MEMORY) {
      for (const oldest of this.#shards.keys()) {
        this.#shards.delete(oldest);
        break;
      }
    }
    this.#shards.set(key, shard);
    return shard;
  }
}
