/**
 * Content-addressed blobs on disk.
 *
 * Files of one blob, in one folder: `<cid>.manifest` (written whole or not at all), and either `<cid>.part` while chunks
 * are missing or `<cid>.blob` when all are there (fsync, then rename). A `.part` has its full size from the start, with
 * each chunk at its place; which chunks are good is not recorded anywhere but found by hashing when a download resumes,
 * so a half-written chunk is simply absent. Every read checks the hash.
 */
import { randomBytes } from 'node:crypto';
import { type FileHandle, mkdir, open, readdir, readFile, rename, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { syncFolder, writeDurably } from '../durable-file.ts';
import { ChunkBitmap } from './chunk-bitmap.ts';
import { chunked } from './chunking.ts';
import {
  BlobNotFoundError,
  BlobStoreFullError,
  BlobStoreUnusableError,
  BlobTooLargeError,
  CorruptBlobError,
} from './errors.ts';
import {
  CHUNK_BYTES,
  chunkLength,
  hashChunk,
  MAX_BLOB_BYTES,
  type Manifest,
  makeManifest,
  readManifest,
} from './manifest.ts';
import { PinSets } from './pin-sets.ts';
import { readAt, writeAt } from './positioned-file.ts';

/** The time of last use is written to disk at most this often per blob: it only has to order evictions. */
const TOUCH_INTERVAL_MS = 60_000;

/** Pin set where the caller names none. */
const DEFAULT_PIN_SET = 'default';

const NO_PREFIX = new Uint8Array(0);

export interface BlobStoreOptions {
  /** Folder of the store; made when absent. One process at a time. */
  readonly dir: string;
  /** Bytes of blobs to hold at most. Over it, blobs that are not pinned go, least recently used first. Default: no cap. */
  readonly capacityBytes?: number;
}

interface Entry {
  readonly manifest: Manifest;
  /** Chunks known to be good. Of a part from an earlier run none are known until a download resumes it. */
  readonly have: ChunkBitmap;
  complete: boolean;
  usedAtMs: number;
  touchedAtMs: number;
  /** Open while a download writes. Such an entry is never evicted. */
  handle?: FileHandle;
  /** Downloads and reads that use the entry now. */
  users: number;
  completing?: Promise<void>;
}

/** Opens a store and reads which blobs it holds; hashes nothing yet. Throws `ERR_BLOB_STORE_UNUSABLE`. */
export async function openBlobStore(options: BlobStoreOptions): Promise<BlobStore> {
  try {
    await mkdir(join(options.dir, 'tmp'), { recursive: true });
    const store = new BlobStore(options, await PinSets.load(options.dir));
    await store.scan();
    return store;
  } catch (cause) {
    throw new BlobStoreUnusableError(`cannot use the folder ${options.dir} for blobs`, { cause });
  }
}

/** Blobs on disk, named by CID. Made by {@link openBlobStore}. */
export class BlobStore {
  readonly #dir: string;
  readonly #capacityBytes: number;
  readonly #pins: PinSets;
  readonly #entries = new Map<string, Entry>();
  #usedBytes = 0;
  /** Room promised to blobs that are being put and have no entry yet. */
  #reservedBytes = 0;

  /** Use {@link openBlobStore}. */
  constructor(options: BlobStoreOptions, pins: PinSets) {
    this.#dir = options.dir;
    this.#capacityBytes = options.capacityBytes ?? Number.POSITIVE_INFINITY;
    this.#pins = pins;
  }

  /** Bytes that blobs and parts take. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** CIDs of all complete blobs. */
  list(): string[] {
    return [...this.#entries].flatMap(([cid, entry]) => (entry.complete ? [cid] : []));
  }

  /** True when the whole blob is here. */
  has(cid: string): boolean {
    return this.#entries.get(cid)?.complete === true;
  }

  /** The manifest of a blob that is here, whole or in part. */
  manifest(cid: string): Manifest | undefined {
    return this.#entries.get(cid)?.manifest;
  }

  /** Chunks of a blob that can be read. Do not change it. */
  chunks(cid: string): ChunkBitmap | undefined {
    return this.#entries.get(cid)?.have;
  }

  /**
   * Stores a blob and returns its CID. The same bytes again cost only the hashing. Throws `ERR_BLOB_STORE_FULL`,
   * `ERR_BLOB_TOO_LARGE`, and what the source throws; then nothing is left behind.
   */
  async put(
    source: Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<string> {
    const temporary = this.#temporary();
    const handle = await open(temporary, 'wx');
    let reserved = 0;
    try {
      const hashes: ReturnType<typeof hashChunk>[] = [];
      let size = 0;
      for await (const chunk of chunked(source)) {
        signal?.throwIfAborted();
        if (size + chunk.length > MAX_BLOB_BYTES) throw new BlobTooLargeError(`a blob over ${MAX_BLOB_BYTES} bytes`);
        await this.#makeRoom(chunk.length);
        this.#reservedBytes += chunk.length;
        reserved += chunk.length;
        hashes.push(hashChunk(chunk));
        await writeAt(handle, chunk, size);
        size += chunk.length;
      }
      const manifest = makeManifest(size, hashes);
      if (this.has(manifest.cid)) {
        this.#used(manifest.cid);
        return manifest.cid;
      }
      await handle.sync();
      await this.#discardPart(manifest.cid);
      await writeDurably(this.#path(manifest.cid, 'manifest'), manifest.encoded, { temporary: this.#temporary() });
      await rename(temporary, this.#path(manifest.cid, 'blob'));
      await syncFolder(this.#dir);
      this.#adopt(manifest);
      return manifest.cid;
    } finally {
      this.#reservedBytes -= reserved;
      await handle.close();
      await rm(temporary, { force: true });
    }
  }

  /** All bytes of a blob. Throws `ERR_BLOB_NOT_FOUND`, or `ERR_BLOB_CORRUPT` when the disk lies (see {@link readChunk}). */
  async get(cid: string): Promise<Uint8Array> {
    const entry = this.#entries.get(cid);
    if (entry?.complete !== true) throw new BlobNotFoundError(`${cid} is not in the store`);
    const bytes = Buffer.allocUnsafeSlow(entry.manifest.size);
    for (let index = 0; index < entry.manifest.chunks.length; index++) {
      const offset = index * CHUNK_BYTES;
      await this.#read(entry, index, bytes.subarray(offset, offset + chunkLength(entry.manifest, index)));
    }
    return bytes;
  }

  /**
   * One chunk of a blob that is here, whole or in part. Throws `ERR_BLOB_NOT_FOUND` when the chunk is not, and
   * `ERR_BLOB_CORRUPT` when the disk does not hold what it should; the blob then counts as incomplete, and fetching it
   * again repairs just what is damaged. A `prefix` is put in front: a reply in one piece, without a copy.
   */
  async readChunk(cid: string, index: number, prefix: Uint8Array = NO_PREFIX): Promise<Uint8Array> {
    const entry = this.#entries.get(cid);
    if (entry?.have.has(index) !== true) throw new BlobNotFoundError(`chunk ${index} of ${cid} is not in the store`);
    const bytes = Buffer.allocUnsafeSlow(prefix.length + chunkLength(entry.manifest, index));
    bytes.set(prefix);
    await this.#read(entry, index, bytes.subarray(prefix.length));
    return bytes;
  }

  /**
   * Makes ready to receive the chunks of a blob: takes the room, and finds out by hashing which chunks an earlier,
   * interrupted download left. Call {@link endDownload} when done, complete or not. Throws `ERR_BLOB_STORE_FULL`.
   */
  async beginDownload(manifest: Manifest, { signal }: { signal?: AbortSignal } = {}): Promise<void> {
    const known = this.#entries.get(manifest.cid);
    if (known?.complete === true) return;
    const path = this.#path(manifest.cid, 'part');
    if (known === undefined) {
      await this.#makeRoom(manifest.size);
      this.#add(manifest, false, Date.now());
      await writeDurably(this.#path(manifest.cid, 'manifest'), manifest.encoded, { temporary: this.#temporary() });
    }
    const entry = this.#entries.get(manifest.cid);
    if (entry === undefined) throw new BlobNotFoundError(`${manifest.cid} was deleted meanwhile`);
    entry.users += 1;
    if (entry.handle !== undefined) return;
    try {
      const handle = await open(path, 'r+').catch(() => open(path, 'w+'));
      entry.handle = handle;
      const { size } = await handle.stat();
      if (size !== manifest.size) await handle.truncate(manifest.size);
      // A part that was empty until now has nothing to find.
      if (size > 0) await this.#verifyPart(entry, handle, signal);
      await this.#completeIfWhole(entry);
    } catch (error) {
      await this.endDownload(manifest.cid);
      throw error;
    }
  }

  /**
   * Writes one chunk of a download, after checking its hash: throws `ERR_BLOB_CORRUPT` and writes nothing when it is
   * wrong. Resolves to true when the blob is complete and durable.
   */
  async writeChunk(cid: string, index: number, bytes: Uint8Array): Promise<boolean> {
    const entry = this.#entries.get(cid);
    if (entry === undefined) throw new BlobNotFoundError(`no download of ${cid}`);
    if (entry.complete) return true;
    if (bytes.length !== chunkLength(entry.manifest, index) || hashChunk(bytes) !== entry.manifest.chunks[index]) {
      throw new CorruptBlobError(`these bytes are not chunk ${index} of ${cid}`);
    }
    if (!entry.have.has(index)) {
      if (entry.handle === undefined) throw new BlobNotFoundError(`no download of ${cid}`);
      await writeAt(entry.handle, bytes, index * CHUNK_BYTES);
      entry.have.set(index);
    }
    await this.#completeIfWhole(entry);
    return entry.complete;
  }

  /** Ends a download. What was verified stays for the next one. */
  async endDownload(cid: string): Promise<void> {
    const entry = this.#entries.get(cid);
    if (entry === undefined) return;
    entry.users = Math.max(0, entry.users - 1);
    if (entry.users > 0) return;
    await entry.completing;
    const handle = entry.handle;
    delete entry.handle;
    await handle?.close();
  }

  /** Removes a blob, pinned or not. Does nothing when it is not here. */
  async delete(cid: string): Promise<void> {
    const entry = this.#entries.get(cid);
    if (entry === undefined) return;
    this.#entries.delete(cid);
    this.#usedBytes -= entry.manifest.size;
    await entry.handle?.close().catch(() => {});
    delete entry.handle;
    // The manifest last: without it the rest is rubbish that the next scan removes.
    for (const kind of ['blob', 'part', 'manifest'] as const) await rm(this.#path(cid, kind), { force: true });
  }

  /**
   * Makes a blob the first to go when room is needed, unless it is pinned or used again before. Kept over a restart as far
   * as the disk allows; a failure to write it down costs nothing but the order.
   */
  evictFirst(cid: string): void {
    const entry = this.#entries.get(cid);
    if (entry === undefined) return;
    entry.usedAtMs = 0;
    entry.touchedAtMs = 0;
    if (entry.complete) utimes(this.#path(cid, 'blob'), 0, 0).catch(() => {});
  }

  /** Keeps blobs from eviction, by replacing the named set. Blobs may be pinned before they are here. */
  pin(cids: Iterable<string>, set: string = DEFAULT_PIN_SET): Promise<void> {
    return this.#pins.replace(set, cids);
  }

  /** CIDs in a pin set. */
  pinned(set: string = DEFAULT_PIN_SET): string[] {
    return this.#pins.list(set);
  }

  /** Closes open files. The store is not to be used after. */
  async close(): Promise<void> {
    for (const entry of this.#entries.values()) {
      await entry.completing?.catch(() => {});
      const handle = entry.handle;
      delete entry.handle;
      await handle?.close().catch(() => {});
    }
    this.#entries.clear();
  }

  /** Reads what is on disk. Called by {@link openBlobStore}. */
  async scan(): Promise<void> {
    await rm(join(this.#dir, 'tmp'), { recursive: true, force: true });
    await mkdir(join(this.#dir, 'tmp'));
    const names = new Set(await readdir(this.#dir));
    for (const name of names) {
      const [cid, kind] = splitName(name);
      if (kind === 'manifest') await this.#load(cid, names.has(`${cid}.blob`));
      // A blob without a manifest cannot be checked, so it is nothing.
      else if ((kind === 'blob' || kind === 'part') && !names.has(`${cid}.manifest`)) await rm(join(this.#dir, name));
    }
    await this.#makeRoom(0);
  }

  async #load(cid: string, blob: boolean): Promise<void> {
    const path = this.#path(cid, blob ? 'blob' : 'part');
    try {
      const manifest = readManifest(cid, await readFile(this.#path(cid, 'manifest')));
      const info = await stat(path).catch(() => undefined);
      const complete = blob && info?.size === manifest.size;
      if (blob && !complete) await rename(path, this.#path(cid, 'part'));
      this.#add(manifest, complete, info?.mtimeMs ?? 0);
    } catch {
      // Damaged: cheaper to fetch again than to keep something that no one can check.
      for (const kind of ['blob', 'part', 'manifest'] as const) await rm(this.#path(cid, kind), { force: true });
    }
  }

  #add(manifest: Manifest, complete: boolean, usedAtMs: number): void {
    const have = new ChunkBitmap(manifest.chunks.length);
    if (complete) for (let index = 0; index < have.length; index++) have.set(index);
    this.#entries.set(manifest.cid, { manifest, have, complete, usedAtMs, touchedAtMs: usedAtMs, users: 0 });
    this.#usedBytes += manifest.size;
  }

  /** Notes that the whole blob is on disk. A download of it that runs meanwhile finds itself done. */
  #adopt(manifest: Manifest): void {
    const entry = this.#entries.get(manifest.cid);
    if (entry === undefined) {
      this.#add(manifest, true, Date.now());
      return;
    }
    for (let index = 0; index < entry.have.length; index++) entry.have.set(index);
    entry.complete = true;
    rm(this.#path(manifest.cid, 'part'), { force: true }).catch(() => {});
  }

  async #read(entry: Entry, index: number, into: Uint8Array): Promise<void> {
    const { cid } = entry.manifest;
    entry.users += 1;
    try {
      const handle = entry.handle ?? (await open(this.#path(cid, entry.complete ? 'blob' : 'part'), 'r'));
      try {
        await readAt(handle, into, index * CHUNK_BYTES);
      } finally {
        if (handle !== entry.handle) await handle.close();
      }
    } catch (cause) {
      await this.#damaged(entry, index);
      throw new CorruptBlobError(`chunk ${index} of ${cid} cannot be read`, { cause });
    } finally {
      entry.users -= 1;
    }
    if (hashChunk(into) !== entry.manifest.chunks[index]) {
      await this.#damaged(entry, index);
      throw new CorruptBlobError(`chunk ${index} of ${cid} is damaged on disk`);
    }
    this.#used(cid);
  }

  /** Turns a blob with a bad chunk into a part without it. */
  async #damaged(entry: Entry, index: number): Promise<void> {
    entry.have.clear(index);
    if (!entry.complete) return;
    entry.complete = false;
    const { cid } = entry.manifest;
    await rename(this.#path(cid, 'blob'), this.#path(cid, 'part')).catch(() => {});
  }

  async #verifyPart(entry: Entry, handle: FileHandle, signal?: AbortSignal): Promise<void> {
    const { manifest, have } = entry;
    const buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
    for (let index = 0; index < manifest.chunks.length; index++) {
      signal?.throwIfAborted();
      const bytes = buffer.subarray(0, chunkLength(manifest, index));
      await readAt(handle, bytes, index * CHUNK_BYTES);
      if (hashChunk(bytes) === manifest.chunks[index]) have.set(index);
      else have.clear(index);
    }
  }

  #completeIfWhole(entry: Entry): Promise<void> {
    if (entry.complete || !entry.have.complete) return Promise.resolve();
    entry.completing ??= this.#complete(entry).finally(() => delete entry.completing);
    return entry.completing;
  }

  async #complete(entry: Entry): Promise<void> {
    const { cid } = entry.manifest;
    await entry.handle?.sync();
    // A `put` of the same bytes may have been faster.
    if (entry.complete) return;
    await rename(this.#path(cid, 'part'), this.#path(cid, 'blob'));
    await syncFolder(this.#dir);
    entry.complete = true;
    this.#used(cid);
  }

  async #discardPart(cid: string): Promise<void> {
    const entry = this.#entries.get(cid);
    if (entry === undefined || entry.users > 0) return;
    await this.delete(cid);
  }

  async #makeRoom(bytes: number): Promise<void> {
    if (bytes > this.#capacityBytes) throw new BlobStoreFullError(`${bytes} bytes do not fit ${this.#capacityBytes}`);
    while (this.#usedBytes + this.#reservedBytes + bytes > this.#capacityBytes) {
      let victim: { cid: string; usedAtMs: number } | undefined;
      for (const [cid, { usedAtMs, users, handle }] of this.#entries) {
        if (users > 0 || handle !== undefined || this.#pins.has(cid)) continue;
        if (victim === undefined || usedAtMs < victim.usedAtMs) victim = { cid, usedAtMs };
      }
      if (victim === undefined) {
        if (bytes === 0) return;
        throw new BlobStoreFullError(`no room for ${bytes} bytes: ${this.#usedBytes} are pinned or in use`);
      }
      await this.delete(victim.cid);
    }
  }

  #used(cid: string): void {
    const entry = this.#entries.get(cid);
    if (entry === undefined) return;
    const now = Date.now();
    // Strictly increasing, so that the order of uses within one millisecond is kept.
    entry.usedAtMs = Math.max(now, entry.usedAtMs + 0.001);
    if (!entry.complete || now - entry.touchedAtMs < TOUCH_INTERVAL_MS) return;
    entry.touchedAtMs = now;
    utimes(this.#path(cid, 'blob'), now / 1000, now / 1000).catch(() => {});
  }

  #path(cid: string, kind: 'manifest' | 'part' | 'blob'): string {
    return join(this.#dir, `${cid}.${kind}`);
  }

  #temporary(): string {
    return join(this.#dir, 'tmp', randomBytes(8).toString('hex'));
  }
}

function splitName(name: string): [cid: string, kind: string] {
  const dot = name.lastIndexOf('.');
  return dot < 0 ? [name, ''] : [name.slice(0, dot), name.slice(dot + 1)];
}
