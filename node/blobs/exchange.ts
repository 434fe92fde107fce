/**
 * Blobs over the network: serves what the store holds, fetches what it does not.
 */
import { raceAbort } from '../network/deadline.ts';
import type { Discovery, PeerIdText, RequestResponse } from '../network/interface.ts';
import { type Log, SILENT_LOG } from '../network/log.ts';
import { BlobTooLargeError, FetchAbortedError } from './errors.ts';
import { DEFAULT_MAX_BYTES, type FetchOptions } from './fetch-options.ts';
import { LiarList } from './liar-list.ts';
import { cidText, contentId } from './manifest.ts';
import type { BlobStore } from './store.ts';
import { type SwarmComponents, SwarmDownload } from './swarm-download.ts';
import {
  ABSENT,
  BLOB_LIMITS,
  BLOB_PROTOCOL,
  decodeRequest,
  encodeOpened,
  encodePresent,
  KIND,
  PRESENT,
} from './wire.ts';

export type { FetchOptions, FetchProgress } from './fetch-options.ts';

/** The part of the network that blobs need. */
export type BlobNetwork = RequestResponse & Discovery & { readonly peerId: PeerIdText };

/** Times that a chunk is fetched again because it cannot be read from the disk. */
const MAX_REPAIRS = 3;

/** Bytes of blobs moved since the start. */
export interface ExchangeStats {
  readonly chunksServed: number;
  readonly bytesServed: number;
  readonly fetches: number;
  readonly liars: number;
}

/** Serves and fetches blobs of a {@link BlobStore}. */
export class BlobExchange {
  /** Where the blobs are. */
  readonly store: BlobStore;
  readonly #network: BlobNetwork;
  readonly #log: Log;
  readonly #liars = new LiarList();
  /** Downloads in progress, by CID: a second caller waits for the first. */
  readonly #downloads = new Map<string, Promise<void>>();
  readonly #stopped = new AbortController();
  #chunksServed = 0;
  #bytesServed = 0;
  #fetches = 0;

  constructor(network: BlobNetwork, store: BlobStore, log: Log = SILENT_LOG) {
    this.#network = network;
    this.store = store;
    this.#log = log;
  }

  /** Begins to serve. Call once, before or after the network starts. */
  async start(): Promise<void> {
    await this.#network.handle(BLOB_PROTOCOL, BLOB_LIMITS, (request) => this.#serve(request));
  }

  /** Ends all downloads. What they verified stays on disk. */
  async stop(): Promise<void> {
    this.#stopped.abort(new FetchAbortedError('the blob exchange was stopped'));
    await Promise.allSettled(this.#downloads.values());
  }

  stats(): ExchangeStats {
    return {
      chunksServed: this.#chunksServed,
      bytesServed: this.#bytesServed,
      fetches: this.#fetches,
      liars: this.#liars.list().length,
    };
  }

  /** Peers that are not asked because they sent wrong bytes. */
  liars(): PeerIdText[] {
    return this.#liars.list();
  }

  /**
   * The bytes of a blob, by any spelling of its CID: from the store, or else from whoever has it; then it is in the store
   * as well. Looks for providers until the signal or `timeoutMs` ends it. Does not announce this peer: see {@link provide}.
   *
   * Throws `ERR_FETCH_ABORTED`, `ERR_FETCH_TIMEOUT`, `ERR_BLOB_TOO_LARGE` (over `maxBytes`; known before any chunk is
   * pulled), `ERR_NOT_A_BLOB`, `ERR_BLOB_STORE_FULL`, `ERR_INVALID_CID`, and errors of the file system.
   */
  async fetch(spelling: string, options: FetchOptions = {}): Promise<Uint8Array> {
    const cid = contentId(spelling);
    for (;;) {
      await this.download(cid, options);
      try {
        return await this.store.get(cid);
      } catch (error) {
        // Damaged on disk, or evicted in between: the next round repairs or fetches it.
        this.#log.warn({ cid, error: String(error) }, 'a blob could not be read; fetching it again');
        options.signal?.throwIfAborted();
      }
    }
  }

  /** Like {@link fetch}, without reading the bytes into memory: for blobs larger than memory. */
  async download(spelling: string, options: FetchOptions = {}): Promise<void> {
    // Throws for text that is no CID before anything is asked of the network.
    const cid = contentId(spelling);
    const { maxBytes = DEFAULT_MAX_BYTES } = options;
    const signal = joined(options.signal, this.#stopped.signal);
    for (;;) {
      const size = this.store.manifest(cid)?.size ?? 0;
      if (size > maxBytes) throw new BlobTooLargeError(`${cid} has ${size} bytes, at most ${maxBytes} allowed`);
      if (this.store.has(cid)) return;
      if (signal.aborted) throw new FetchAbortedError(`${cid}: aborted`, { cause: signal.reason });
      const running = this.#downloads.get(cid);
      if (running === undefined) return this.#download(cid, { ...options, signal });
      // Another caller's download: when it fails for his reasons (his signal, his limits) try ourselves.
      await raceAbort(
        running.catch(() => {}),
        signal,
      ).catch((cause: unknown) => {
        throw new FetchAbortedError(`${cid}: aborted`, { cause });
      });
    }
  }

  /**
   * The chunks of a blob in order, one in memory at a time: from the store, or else from whoever has it. Each is checked
   * against its hash when it is read; one that the disk does not give is fetched again. Throws as {@link fetch}, and
   * `ERR_BLOB_CORRUPT` where the disk keeps failing.
   */
  async *chunks(spelling: string, options: FetchOptions = {}): AsyncGenerator<Uint8Array> {
    const cid = contentId(spelling);
    await this.download(cid, options);
    let failures = 0;
    for (let index = 0; index < (this.store.manifest(cid)?.chunks.length ?? 0); ) {
      options.signal?.throwIfAborted();
      let chunk: Uint8Array;
      try {
        chunk = await this.store.readChunk(cid, index);
      } catch (error) {
        // Damaged on disk, or evicted in between.
        this.#log.warn({ cid, index, error: String(error) }, 'a chunk could not be read; fetching it again');
        failures += 1;
        if (failures > MAX_REPAIRS) throw error;
        await this.download(cid, options);
        continue;
      }
      failures = 0;
      index += 1;
      yield chunk;
    }
  }

  /** Announces that this peer has the blob. Throws `ERR_NOT_PROVIDED` when no peer takes the record. */
  provide(cid: string, options: { signal?: AbortSignal } = {}): Promise<void> {
    return this.#network.provide(cid, options);
  }

  /** Stores a blob and announces it: from then on others can fetch it. Returns its CID. Throws as `put` and `provide`. */
  async publish(
    source: Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
    options: { signal?: AbortSignal } = {},
  ): Promise<string> {
    const cid = await this.store.put(source, options);
    await this.#network.provide(cid, options);
    return cid;
  }

  async #download(cid: string, options: FetchOptions): Promise<void> {
    this.#fetches += 1;
    const components: SwarmComponents = {
      network: this.#network,
      store: this.store,
      liars: this.#liars,
      log: this.#log,
    };
    const running = new SwarmDownload(components, cid, options).run();
    this.#downloads.set(cid, running);
    try {
      await running;
    } finally {
      this.#downloads.delete(cid);
    }
  }

  async #serve(bytes: Uint8Array): Promise<Uint8Array> {
    const { kind, digest, index } = decodeRequest(bytes);
    const cid = cidText(digest);
    const manifest = this.store.manifest(cid);
    const have = this.store.chunks(cid);
    if (manifest === undefined || have === undefined) return ABSENT;
    if (kind === KIND.have) return encodePresent(have.bytes);
    if (kind === KIND.chunk) {
      return (have.has(index) ? await this.#chunk(cid, index, PRESENT) : undefined) ?? ABSENT;
    }
    if (have.count === 0 && have.length > 0) return ABSENT;
    return encodeOpened({
      manifest: manifest.encoded,
      have: have.complete ? undefined : have.bytes,
      chunk: manifest.chunks.length === 1 && have.has(0) ? await this.#chunk(cid, 0) : undefined,
    });
  }

  /** A chunk to send; undefined when the disk does not give it, which is our trouble and not the peer's. */
  async #chunk(cid: string, index: number, prefix?: Uint8Array): Promise<Uint8Array | undefined> {
    try {
      const chunk = await this.store.readChunk(cid, index, prefix);
      this.#chunksServed += 1;
      this.#bytesServed += chunk.length - (prefix?.length ?? 0);
      return chunk;
    } catch (error) {
      this.#log.warn({ cid, index, error: String(error) }, 'a chunk could not be read');
      return undefined;
    }
  }
}

function joined(a: AbortSignal | undefined, b: AbortSignal): AbortSignal {
  return a === undefined ? b : AbortSignal.any([a, b]);
}
