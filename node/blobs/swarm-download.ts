/**
 * One download: finds providers, asks several at once, checks each chunk before it is written, and does without those
 * that lie, stall or leave. It ends when the blob is complete, or when the caller's signal or time limit says so.
 */
import { deadline, pause } from '../network/deadline.ts';
import { NetworkError, RemoteFailureError } from '../network/errors.ts';
import type { Discovery, PeerIdText, RequestResponse } from '../network/interface.ts';
import type { Log } from '../network/log.ts';
import { ChunkBitmap } from './chunk-bitmap.ts';
import { ChunkSchedule } from './chunk-schedule.ts';
import {
  BlobTooLargeError,
  CorruptBlobError,
  FetchAbortedError,
  FetchTimeoutError,
  InvalidManifestError,
} from './errors.ts';
import { DEFAULT_MAX_BYTES, type FetchOptions } from './fetch-options.ts';
import type { LiarList } from './liar-list.ts';
import { cidDigest, type Manifest, readManifest } from './manifest.ts';
import type { BlobStore } from './store.ts';
import { BLOB_LIMITS, BLOB_PROTOCOL, decodeOpened, decodePresent, encodeRequest, KIND, type Opened } from './wire.ts';

/** Providers pulled from at a time. More would cost each of them connections for little speed. */
const MAX_ACTIVE_PROVIDERS = 8;

/** Providers known to one download; more are not needed, and anyone can announce himself. */
const MAX_KNOWN_PROVIDERS = 256;

/** Requests in flight to one provider (DESIGN 4: two or three): hides the round trip, holds 3 MiB. */
const REQUESTS_PER_PROVIDER = 3;

/** A provider that does not answer a request in this time is given up for a while. */
const REQUEST_TIMEOUT_MS = 15_000;

/** Head start of hints before the DHT is asked: with a good hint it need not be asked at all. */
const HINT_HEAD_START_MS = 250;

/**
 * Providers asked at first, before anyone has answered: the answer of a small blob is the whole blob, and one is enough.
 * One more is asked at each look, in case those are slow.
 */
const FIRST_ASKED = 2;

/** Connected peers asked at a time when nobody is known to have the blob. */
const NEIGHBOURS_ASKED = 8;

/** Pause between lookups: from, to. Grows while they bring nobody new. */
const LOOKUP_MS = [200, 5_000] as const;

/** A provider without the blob, or that failed, is asked again after this time: from, to. Doubles each time. */
const REST_MS = [300, 10_000] as const;

/** How often a provider that is still downloading itself is asked what it has by now. */
const HAVE_REFRESH_MS = 400;

/** Longest wait for a change when a worker has nothing to do; also when slow chunks are looked for. */
const IDLE_MS = 200;

/** Longest `timeoutMs` that timers take; stands for "none". */
const NO_TIMEOUT_MS = 2 ** 31 - 1;

interface Provider {
  readonly peer: PeerIdText;
  state: 'idle' | 'active';
  restUntil: number;
  rests: number;
  /** Undefined: has everything. */
  have?: ChunkBitmap;
  haveAt: number;
}

export interface SwarmComponents {
  readonly network: RequestResponse & Discovery & { readonly peerId: PeerIdText };
  readonly store: BlobStore;
  readonly liars: LiarList;
  readonly log: Log;
}

/** Downloads one blob into the store. Use once. */
export class SwarmDownload {
  readonly #network: SwarmComponents['network'];
  readonly #store: BlobStore;
  readonly #liars: LiarList;
  readonly #log: Log;
  readonly #cid: string;
  readonly #options: FetchOptions;
  readonly #providers = new Map<PeerIdText, Provider>();
  /** Providers that may be asked at once while the manifest is not known. */
  #mayAsk = FIRST_ASKED;
  /** Position among the connected peers of those to ask next. */
  #nextNeighbour = 0;
  #schedule = new ChunkSchedule([]);
  readonly #tasks = new Set<Promise<void>>();
  readonly #wakeups = new Set<() => void>();
  readonly #end = new AbortController();
  readonly #finished = Promise.withResolvers<void>();
  #manifest: Manifest | undefined;
  #planning: Promise<void> | undefined;
  #began = false;

  constructor(components: SwarmComponents, cid: string, options: FetchOptions) {
    this.#network = components.network;
    this.#store = components.store;
    this.#liars = components.liars;
    this.#log = components.log;
    this.#cid = cid;
    this.#options = options;
    // It may be rejected before `run` waits for it.
    this.#finished.promise.catch(() => {});
  }

  /**
   * Resolves when the blob is complete in the store. Throws `ERR_FETCH_ABORTED`, `ERR_FETCH_TIMEOUT`,
   * `ERR_BLOB_TOO_LARGE`, `ERR_NOT_A_BLOB`, `ERR_BLOB_STORE_FULL`, and file system errors.
   */
  async run(): Promise<void> {
    const { signal, timeoutMs = NO_TIMEOUT_MS } = this.#options;
    const limit = deadline(timeoutMs, signal);
    const onLimit = () =>
      this.#finished.reject(
        limit.expired()
          ? new FetchTimeoutError(`${this.#cid}: ${this.#state()} after ${timeoutMs} ms`)
          : new FetchAbortedError(`${this.#cid}: ${this.#state()}`, { cause: signal?.reason }),
      );
    limit.signal.addEventListener('abort', onLimit, { once: true });
    if (limit.signal.aborted) onLimit();
    try {
      const known = this.#store.manifest(this.#cid);
      if (known !== undefined) await this.#plan(known);
      this.#spawn(this.#lookUp());
      await this.#finished.promise;
    } finally {
      limit.clear();
      this.#end.abort();
      this.#wake();
      await Promise.all(this.#tasks);
      if (this.#began) await this.#store.endDownload(this.#cid);
    }
  }

  #state(): string {
    const have = this.#store.chunks(this.#cid);
    const chunks =
      this.#manifest === undefined ? 'no manifest' : `${have?.count ?? 0}/${this.#manifest.chunks.length} chunks`;
    return `${chunks}, ${this.#providers.size} providers seen`;
  }

  /** Finds providers, over and over. */
  async #lookUp(): Promise<void> {
    const { hints = [], providersOf = [] } = this.#options;
    const signal = this.#end.signal;
    for (const peer of hints) this.#meet(peer);
    if (hints.length > 0) await pause(HINT_HEAD_START_MS, signal);
    let waitMs: number = LOOKUP_MS[0];
    while (!signal.aborted) {
      const before = this.#providers.size;
      await Promise.all([this.#cid, ...providersOf].map((cid) => this.#lookUpOne(cid, signal)));
      this.#meetAll();
      for (const peer of hints) this.#meet(peer);
      // Provider records are in other peers' memory and may be gone, after a restart of everything for instance.
      if (this.#active() === 0) for (const peer of this.#neighbours()) this.#meet(peer);
      waitMs = this.#providers.size > before ? LOOKUP_MS[0] : Math.min(LOOKUP_MS[1], waitMs * 1.6);
      // With nobody to pull from, keep a brisk pace: someone may just have begun to provide.
      await pause(this.#active() === 0 ? Math.min(waitMs, 1_000) : waitMs, signal);
      this.#mayAsk = Math.min(MAX_ACTIVE_PROVIDERS, this.#mayAsk + 1);
    }
  }

  /** Looks at all known providers again. */
  #meetAll(): void {
    for (const peer of this.#providers.keys()) this.#meet(peer);
  }

  /** A few connected peers, others at each call; none once they would crowd out peers that announced the blob. */
  #neighbours(): PeerIdText[] {
    if (this.#providers.size >= MAX_KNOWN_PROVIDERS / 2) return [];
    const peers = this.#network.peers();
    const start = this.#nextNeighbour;
    this.#nextNeighbour += NEIGHBOURS_ASKED;
    const count = Math.min(NEIGHBOURS_ASKED, peers.length);
    return Array.from({ length: count }, (_, index) => peers[(start + index) % peers.length]);
  }

  async #lookUpOne(cid: string, signal: AbortSignal): Promise<void> {
    try {
      for await (const peer of this.#network.findProviders(cid, { signal })) this.#meet(peer);
    } catch (error) {
      if (!signal.aborted) this.#log.debug({ cid, error: String(error) }, 'provider lookup failed');
    }
  }

  /** Takes note of a provider and pulls from it when it may be of use now. */
  #meet(peer: PeerIdText): void {
    if (this.#end.signal.aborted || peer === this.#network.peerId || this.#liars.has(peer)) return;
    let provider = this.#providers.get(peer);
    if (provider === undefined) {
      if (this.#providers.size >= MAX_KNOWN_PROVIDERS) return;
      provider = { peer, state: 'idle', restUntil: 0, rests: 0, haveAt: 0 };
      this.#providers.set(peer, provider);
    }
    if (provider.state === 'active' || provider.restUntil > performance.now()) return;
    if (this.#active() >= (this.#manifest === undefined ? this.#mayAsk : MAX_ACTIVE_PROVIDERS)) return;
    provider.state = 'active';
    this.#spawn(this.#pullFrom(provider));
  }

  #active(): number {
    let active = 0;
    for (const provider of this.#providers.values()) if (provider.state === 'active') active += 1;
    return active;
  }

  async #pullFrom(provider: Provider): Promise<void> {
    try {
      const opened = await this.#open(provider.peer);
      if (opened === undefined) {
        this.#rest(provider);
        return;
      }
      await this.#plan(readManifest(this.#cid, opened.manifest));
      this.#noteHave(provider, opened.have);
      if (opened.chunk !== undefined) await this.#accept(provider, 0, opened.chunk);
      await Promise.all(Array.from({ length: REQUESTS_PER_PROVIDER }, () => this.#work(provider)));
    } catch (error) {
      this.#onFailure(provider, error);
    } finally {
      provider.state = 'idle';
      // One that does not have it made room for another that may.
      if (this.#manifest === undefined) this.#meetAll();
      this.#wake();
    }
  }

  #onFailure(provider: Provider, error: unknown): void {
    if (this.#end.signal.aborted) return;
    if (error instanceof CorruptBlobError || error instanceof InvalidManifestError || isDecodeError(error)) {
      // Whatever hashes wrong was sent wrong: TCP and noise rule out accidents.
      this.#log.warn(
        { cid: this.#cid, peer: provider.peer, error: String(error) },
        'provider sent wrong bytes; dropped',
      );
      this.#liars.add(provider.peer);
    } else if (error instanceof NetworkError) {
      this.#log.debug({ cid: this.#cid, peer: provider.peer, code: error.code }, 'provider failed');
      this.#rest(provider);
    } else {
      // Ours (the disk, the size limit) or that of who made the CID (it names no blob). No provider can help.
      this.#finished.reject(error);
    }
  }

  #rest(provider: Provider): void {
    const waitMs = Math.min(REST_MS[1], REST_MS[0] * 2 ** provider.rests);
    provider.rests = Math.min(provider.rests + 1, 16);
    provider.restUntil = performance.now() + waitMs;
  }

  /** Knows the manifest from here on; the first call prepares the store, later ones wait for that. */
  #plan(manifest: Manifest): Promise<void> {
    this.#planning ??= this.#prepare(manifest);
    return this.#planning;
  }

  async #prepare(manifest: Manifest): Promise<void> {
    const { maxBytes = DEFAULT_MAX_BYTES } = this.#options;
    if (manifest.size > maxBytes) {
      throw new BlobTooLargeError(`${this.#cid} has ${manifest.size} bytes, at most ${maxBytes} allowed`);
    }
    await this.#store.beginDownload(manifest, { signal: this.#end.signal });
    this.#began = true;
    this.#manifest = manifest;
    const have = this.#store.chunks(this.#cid);
    const missing = manifest.chunks.flatMap((_hash, index) => (have?.has(index) === true ? [] : [index]));
    this.#schedule = new ChunkSchedule(missing);
    this.#report();
    if (missing.length === 0) {
      // Nothing to pull (an empty blob, or all chunks were found on disk).
      if (this.#store.has(this.#cid)) this.#finished.resolve();
      return;
    }
    if (missing.length > 1) this.#meetAll();
    if (this.#options.announce === true) {
      this.#spawn(this.#network.provide(this.#cid, { signal: this.#end.signal }).catch(() => {}));
    }
  }

  /** One of a provider's request loops. Ends when there is nothing left that this provider could give. */
  async #work(provider: Provider): Promise<void> {
    const signal = this.#end.signal;
    while (!signal.aborted && provider.state === 'active' && !this.#liars.has(provider.peer)) {
      const index = this.#schedule.next(provider.peer, provider.have, performance.now());
      if (index === undefined) {
        if (provider.have !== undefined && performance.now() - provider.haveAt > HAVE_REFRESH_MS) {
          provider.haveAt = performance.now();
          await this.#refreshHave(provider);
        } else {
          await this.#change(IDLE_MS);
        }
        continue;
      }
      try {
        const chunk = decodePresent(await this.#ask(provider.peer, KIND.chunk, index));
        if (chunk !== undefined) await this.#accept(provider, index, chunk);
        else this.#lacks(provider, index);
      } finally {
        this.#schedule.release(provider.peer, index);
        this.#wake();
      }
    }
  }

  async #accept(provider: Provider, index: number, bytes: Uint8Array): Promise<void> {
    const complete = await this.#store.writeChunk(this.#cid, index, bytes);
    provider.rests = 0;
    this.#schedule.done(index);
    this.#report();
    if (complete) this.#finished.resolve();
  }

  /**
   * The provider does not have a chunk after all: no lie, it may have evicted it. Where it has none of what it said it had,
   * it is left alone for a while, or it would be asked as fast as it answers. Throws RemoteFailureError then.
   */
  #lacks(provider: Provider, index: number): void {
    provider.have ??= full(this.#manifest?.chunks.length ?? 0);
    provider.have.clear(index);
    if (provider.have.count > 0) return;
    delete provider.have;
    throw new RemoteFailureError(`${provider.peer} has no chunk of ${this.#cid} that it said it has`);
  }

  async #refreshHave(provider: Provider): Promise<void> {
    this.#noteHave(provider, decodePresent(await this.#ask(provider.peer, KIND.have, 0)) ?? new Uint8Array(0));
  }

  #noteHave(provider: Provider, bytes: Uint8Array | undefined): void {
    provider.haveAt = performance.now();
    if (bytes === undefined) {
      delete provider.have;
      return;
    }
    const chunks = this.#manifest?.chunks.length ?? 0;
    const have = ChunkBitmap.from(bytes, chunks) ?? new ChunkBitmap(chunks);
    if (have.complete) delete provider.have;
    else provider.have = have;
  }

  async #open(peer: PeerIdText): Promise<Opened | undefined> {
    return decodeOpened(await this.#ask(peer, KIND.open, 0));
  }

  #ask(peer: PeerIdText, kind: number, index: number): Promise<Uint8Array> {
    return this.#network.request(peer, BLOB_PROTOCOL, encodeRequest({ kind, digest: cidDigest(this.#cid), index }), {
      limits: { ...BLOB_LIMITS, timeoutMs: REQUEST_TIMEOUT_MS },
      signal: this.#end.signal,
    });
  }

  #report(): void {
    const manifest = this.#manifest;
    const have = this.#store.chunks(this.#cid);
    if (manifest === undefined || have === undefined) return;
    this.#options.onProgress?.({
      cid: this.#cid,
      bytes: Math.min(manifest.size, Math.round((manifest.size * have.count) / Math.max(1, have.length))),
      totalBytes: manifest.size,
      chunks: have.count,
      totalChunks: have.length,
      providers: this.#active(),
    });
  }

  #spawn(task: Promise<void>): void {
    const tracked = task
      .catch((error: unknown) => this.#finished.reject(error))
      .finally(() => this.#tasks.delete(tracked));
    this.#tasks.add(tracked);
  }

  #wake(): void {
    for (const wakeup of this.#wakeups) wakeup();
  }

  /** Resolves at the next change, or after a time. */
  async #change(ms: number): Promise<void> {
    const woken = new AbortController();
    const wakeup = () => woken.abort();
    this.#wakeups.add(wakeup);
    if (this.#end.signal.aborted) woken.abort();
    await pause(ms, woken.signal);
    this.#wakeups.delete(wakeup);
  }
}

function isDecodeError(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ERR_DECODE';
}

function full(length: number): ChunkBitmap {
  const bitmap = new ChunkBitmap(length);
  for (let index = 0; index < length; index++) bitmap.set(index);
  return bitmap;
}
