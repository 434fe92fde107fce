/**
 * The node's database: blocks, the state after the last one, and where each transaction ended up. SQLite with a
 * write-ahead log and full synchronization; one transaction per block, so that a crash leaves whole blocks only.
 */
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import { accountFromPublicKey } from '../chain/account.ts';
import {
  type Block,
  blockId,
  type Commit,
  decodeBlock,
  decodeCommit,
  encodeBlock,
  encodeCommit,
  HEADER_PREFIX_BYTES,
  type Header,
  headerOfBlock,
} from '../chain/block.ts';
import { type Hash, hashBytes, hashFromBytes } from '../chain/hash.ts';
import type { ValidatorSet } from '../chain/validator-set.ts';
import type { Receipt } from '../ledger/execute.ts';
import { validatorSetCodec } from '../ledger/validators.ts';
import {
  StoreDamagedError,
  StoreNetworkError,
  StoreOrderError,
  StoreUnavailableError,
  StoreVersionError,
} from './errors.ts';
import { CursorTooOldError, EVENT_WINDOW_BLOCKS, type EventCursor, type StoredEvent } from './event-log.ts';

/** Version of the schema below; stored as SQLite's `user_version`. */
export const SCHEMA_VERSION = 3;

/** "ALIC": marks the file as ours (SQLite's `application_id`). */
const APPLICATION_ID = 0x414c4943;

/** Versions only ever added tables, so that creating what is missing brings any older file up to date. */
const SCHEMA = `
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blocks (
  height INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, validators BLOB NOT NULL, block BLOB NOT NULL, finality BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS receipts (
  id BLOB PRIMARY KEY, height INTEGER NOT NULL, position INTEGER NOT NULL,
  signer BLOB NOT NULL, nonce INTEGER NOT NULL, call TEXT NOT NULL, error TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS receipts_by_height ON receipts (height, position);
CREATE INDEX IF NOT EXISTS receipts_by_signer ON receipts (signer, nonce);
CREATE TABLE IF NOT EXISTS events (
  height INTEGER NOT NULL, position INTEGER NOT NULL, type TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (height, position)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS validator_sets (hash BLOB PRIMARY KEY, members BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state_before (
  height INTEGER NOT NULL, key TEXT NOT NULL, value BLOB, PRIMARY KEY (height, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sync_chunks (
  height INTEGER NOT NULL, depth INTEGER NOT NULL, position INTEGER NOT NULL, chunk BLOB NOT NULL,
  PRIMARY KEY (height, depth, position)
) WITHOUT ROWID;
`;

/** Points between the writes of one block, in order, for fault injection in tests. */
export const WRITE_POINTS = ['begin', 'block', 'state', 'receipts', 'events', 'validators', 'commit'] as const;
export type WritePoint = (typeof WRITE_POINTS)[number];

/** How much of the past is kept, in blocks. */
export interface Retention {
  /** States before the last one that can still be read and proven; at least 1. */
  readonly stateWindowBlocks: number;
  /** Blocks with their receipts; undefined keeps all. Not fewer than {@link MIN_BLOCK_WINDOW}. */
  readonly blockWindowBlocks: number | undefined;
}

/**
 * Proposer priorities are computed from the validator sets since the last anchor (256 blocks), and the state window is
 * proven by headers: both have to be there.
 */
export const MIN_BLOCK_WINDOW = 512;

/** What is kept unless told otherwise: every block, and states for as long as somebody may be verifying one. */
export const DEFAULT_RETENTION: Retention = { stateWindowBlocks: 1024, blockWindowBlocks: undefined };

/** Where and for which network. */
export interface StoreInit {
  /** File path, or ":memory:". */
  readonly path: string;
  readonly genesisHash: Hash;
  /** Called before each write of a block. For tests that kill the process there. */
  readonly onWrite?: (point: WritePoint) => void;
  readonly retention?: Retention;
}

/** A state that was taken from elsewhere, with the block after which it is the state. */
export interface StoredSnapshot {
  readonly block: Block;
  readonly commit: Commit;
  readonly entries: Iterable<readonly [string, Uint8Array]>;
  readonly validatorSets: ReadonlyMap<Hash, ValidatorSet>;
}

/** Everything that one block changes. */
export interface StoredBlock {
  readonly block: Block;
  readonly commit: Commit;
  readonly changes: ReadonlyMap<string, Uint8Array | undefined>;
  readonly receipts: readonly Receipt[];
  /** What watchers are told, in order: type and JSON text. */
  readonly events: readonly { readonly type: string; readonly body: string }[];
  /** Sets named by the header's hashes, so that commits can be verified later. */
  readonly validatorSets: ReadonlyMap<Hash, ValidatorSet>;
}

/** A receipt and where it is. */
export interface StoredReceipt extends Receipt {
  readonly height: number;
  readonly position: number;
}

/** Error codes of SQLite that mean a damaged file. */
const SQLITE_CORRUPT = 11;
const SQLITE_NOTADB = 26;

function sqliteCode(error: unknown): number | undefined {
  const code = (error as { errcode?: unknown }).errcode;
  // The low byte is the primary code.
  return typeof code === 'number' ? code & 0xff : undefined;
}

/** Turns what SQLite throws into the errors of this folder. */
function storeError(path: string, cause: unknown): Error {
  const code = sqliteCode(cause);
  if (code === SQLITE_CORRUPT || code === SQLITE_NOTADB) {
    return new StoreDamagedError(`${path} is damaged: move it away, the node gets the blocks from its peers again`, {
      cause,
    });
  }
  if (code === undefined) return cause instanceof Error ? cause : new Error(String(cause));
  return new StoreUnavailableError(
    `cannot use ${path} (${(cause as Error).message}): check that the folder exists, is writable, has room, and that no other node uses it`,
    { cause },
  );
}

/** An open database. Every method throws {@link StoreDamagedError} or {@link StoreUnavailableError} when SQLite fails. */
export class Store {
  readonly #path: string;
  readonly #db: DatabaseSync;
  readonly #onWrite: (point: WritePoint) => void;
  readonly #retention: Retention;
  readonly #statements = new Map<string, StatementSync>();

  private constructor({ path, onWrite, retention }: StoreInit, db: DatabaseSync) {
    this.#path = path;
    this.#db = db;
    this.#onWrite = onWrite ?? (() => {});
    this.#retention = retention ?? DEFAULT_RETENTION;
  }

  /**
   * Opens or creates the database and checks it: whole, of this network, not written by a newer program. Throws the
   * errors of `errors.ts`.
   */
  static open(init: StoreInit): Store {
    let db: DatabaseSync | undefined;
    try {
      db = new DatabaseSync(init.path);
      db.exec(
        'PRAGMA busy_timeout = 1000; PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;',
      );
      const store = new Store(init, db);
      store.#check(init.genesisHash);
      return store;
    } catch (error) {
      db?.close();
      throw storeError(init.path, error);
    }
  }

  #check(genesisHash: Hash): void {
    const pragma = (name: string): unknown => Object.values(this.#db.prepare(`PRAGMA ${name}`).get() ?? {})[0];
    const version = pragma('user_version');
    const tables = this.#db.prepare('SELECT count(*) AS n FROM sqlite_schema').get()?.n;
    if (version === 0 && tables === 0) {
      this.#create(genesisHash);
      return;
    }
    if (pragma('application_id') !== APPLICATION_ID) {
      throw new StoreDamagedError(`${this.#path} is no database of Alice: choose another folder`);
    }
    if (typeof version !== 'number' || version > SCHEMA_VERSION) {
      throw new StoreVersionError(
        `${this.#path} was written by a newer version (schema ${version}, this program knows ${SCHEMA_VERSION}): update the program`,
      );
    }
    if (version < SCHEMA_VERSION)
      this.#db.exec(`BEGIN IMMEDIATE; ${SCHEMA} PRAGMA user_version = ${SCHEMA_VERSION}; COMMIT`);
    const found = pragma('quick_check(1)');
    if (found !== 'ok') {
      throw new StoreDamagedError(
        `${this.#path} is damaged (${found}): move it away, the node gets the blocks from its peers again`,
      );
    }
    const stored = this.#get('SELECT value FROM meta WHERE name = ?', 'genesis')?.value;
    if (!(stored instanceof Uint8Array) || hashFromBytes(stored) !== genesisHash) {
      throw new StoreNetworkError(
        `${this.#path} belongs to another network: use the network file it was made with, or another folder`,
      );
    }
  }

  #create(genesisHash: Hash): void {
    this.#db.exec('BEGIN IMMEDIATE');
    this.#db.exec(SCHEMA);
    this.#run('INSERT INTO meta (name, value) VALUES (?, ?)', 'genesis', hashBytes(genesisHash));
    this.#db.exec(`PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${SCHEMA_VERSION}`);
    this.#db.exec('COMMIT');
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#db.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  #run(sql: string, ...values: SQLInputValue[]): void {
    this.#prepare(sql).run(...values);
  }

  #get(sql: string, ...values: SQLInputValue[]): Record<string, unknown> | undefined {
    try {
      return this.#prepare(sql).get(...values);
    } catch (error) {
      throw storeError(this.#path, error);
    }
  }

  /** Height of the last stored block; 0 when there is none. */
  get height(): number {
    return Number(this.#get('SELECT max(height) AS height FROM blocks')?.height ?? 0);
  }

  /** True when not even the state before the first block is there. */
  get isEmpty(): boolean {
    return this.#get('SELECT 1 AS present FROM state LIMIT 1') === undefined;
  }

  /** Writes the state before the first block. Does nothing when there is a state already. */
  writeGenesis(entries: Iterable<readonly [string, Uint8Array]>, validatorSets: ReadonlyMap<Hash, ValidatorSet>): void {
    if (!this.isEmpty) return;
    this.#transaction(() => {
      for (const [key, value] of entries) this.#run('INSERT INTO state (key, value) VALUES (?, ?)', key, value);
      this.#writeValidatorSets(validatorSets);
    });
  }

  /**
   * Makes a block final: block, state, receipts and height in one transaction, on disk when this returns. Throws
   * {@link StoreOrderError} when it does not follow the last one.
   */
  writeBlock(stored: StoredBlock): void {
    const { header } = stored.block;
    const expected = this.height + 1;
    if (header.height !== expected) {
      throw new StoreOrderError(`block ${header.height} does not follow: the next one is ${expected}`);
    }
    this.#onWrite('begin');
    this.#transaction(() => {
      this.#onWrite('block');
      this.#run(
        'INSERT INTO blocks (height, id, validators, block, finality) VALUES (?, ?, ?, ?, ?)',
        header.height,
        hashBytes(blockId(header)),
        hashBytes(header.validatorsHash),
        encodeBlock(stored.block),
        encodeCommit(stored.commit),
      );
      this.#onWrite('state');
      this.#writeChanges(header.height, stored.changes);
      this.#onWrite('receipts');
      for (const [position, receipt] of stored.receipts.entries()) {
        this.#run(
          'INSERT INTO receipts (id, height, position, signer, nonce, call, error) VALUES (?, ?, ?, ?, ?, ?, ?)',
          hashBytes(receipt.id),
          header.height,
          position,
          Buffer.from(receipt.signer, 'hex'),
          receipt.nonce,
          receipt.call,
          receipt.error ?? null,
        );
      }
      this.#onWrite('events');
      for (const [position, { type, body }] of stored.events.entries()) {
        this.#run(
          'INSERT INTO events (height, position, type, body) VALUES (?, ?, ?, ?)',
          header.height,
          position,
          type,
          body,
        );
      }
      this.#prune(header.height);
      this.#onWrite('validators');
      this.#writeValidatorSets(stored.validatorSets);
      this.#onWrite('commit');
    });
  }

  /** Changes the state, and notes what was there before. */
  #writeChanges(height: number, changes: ReadonlyMap<string, Uint8Array | undefined>): void {
    for (const [key, value] of changes) {
      this.#run(
        'INSERT INTO state_before (height, key, value) VALUES (?, ?, (SELECT value FROM state WHERE key = ?))',
        height,
        key,
        key,
      );
      if (value === undefined) this.#run('DELETE FROM state WHERE key = ?', key);
      else
        this.#run(
          'INSERT INTO state (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value',
          key,
          value,
        );
    }
  }

  /** Drops what the windows no longer hold once `height` is written: a block's worth each time. */
  #prune(height: number): void {
    const { stateWindowBlocks, blockWindowBlocks } = this.#retention;
    this.#run('DELETE FROM events WHERE height <= ?', height - EVENT_WINDOW_BLOCKS);
    this.#run('DELETE FROM state_before WHERE height <= ?', height - Math.max(1, stateWindowBlocks));
    if (blockWindowBlocks === undefined) return;
    // Never fewer than the kept states: their proofs begin at headers.
    const last = height - Math.max(MIN_BLOCK_WINDOW, blockWindowBlocks, stateWindowBlocks);
    this.#run('DELETE FROM blocks WHERE height <= ?', last);
    this.#run('DELETE FROM receipts WHERE height <= ?', last);
  }

  /**
   * Puts a state and its block in place of everything that is stored; the next block follows it. On disk when this
   * returns. The caller has verified that they belong to the chain.
   */
  writeSnapshot({ block, commit, entries, validatorSets }: StoredSnapshot): void {
    const { header } = block;
    this.#transaction(() => {
      for (const table of ['blocks', 'state', 'receipts', 'events', 'state_before', 'sync_chunks'])
        this.#run(`DELETE FROM ${table}`);
      for (const [key, value] of entries) this.#run('INSERT INTO state (key, value) VALUES (?, ?)', key, value);
      this.#run(
        'INSERT INTO blocks (height, id, validators, block, finality) VALUES (?, ?, ?, ?, ?)',
        header.height,
        hashBytes(blockId(header)),
        hashBytes(header.validatorsHash),
        encodeBlock(block),
        encodeCommit(commit),
      );
      this.#writeValidatorSets(validatorSets);
    });
  }

  /** What block `height` changed, as it was before: bytes, or undefined for an entry that was not there. */
  stateBefore(height: number): (readonly [string, Uint8Array | undefined])[] {
    const rows = this.#prepare('SELECT key, value FROM state_before WHERE height = ?').all(height);
    return rows.map(({ key, value }) => [
      key as string,
      value === null ? undefined : new Uint8Array(value as Uint8Array),
    ]);
  }

  /** Lowest height whose state can still be read. */
  get oldestState(): number {
    const first = this.#get('SELECT min(height) AS height FROM state_before')?.height;
    return first === null || first === undefined ? this.height : Number(first) - 1;
  }

  /** Lowest height whose block is kept; 0 when there is none. */
  get oldestBlock(): number {
    return Number(this.#get('SELECT min(height) AS height FROM blocks')?.height ?? 0);
  }

  /** Keeps a verified chunk of a state that is being fetched; chunks of other heights and depths go. */
  keepSyncChunk(height: number, depth: number, position: number, chunk: Uint8Array): void {
    this.#transaction(() => {
      this.#run('DELETE FROM sync_chunks WHERE height <> ? OR depth <> ?', height, depth);
      this.#run(
        'INSERT INTO sync_chunks (height, depth, position, chunk) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING',
        height,
        depth,
        position,
        chunk,
      );
    });
  }

  /** Forgets what was fetched of a state. */
  dropSyncChunks(): void {
    this.#transaction(() => this.#run('DELETE FROM sync_chunks'));
  }

  /** The height and depth of the chunks that are kept; undefined when there are none. */
  get syncing(): { readonly height: number; readonly depth: number } | undefined {
    const row = this.#get('SELECT height, depth FROM sync_chunks LIMIT 1');
    return row === undefined ? undefined : { height: Number(row.height), depth: Number(row.depth) };
  }

  syncChunk(height: number, depth: number, position: number): Uint8Array | undefined {
    const sql = 'SELECT chunk FROM sync_chunks WHERE height = ? AND depth = ? AND position = ?';
    const chunk = this.#get(sql, height, depth, position)?.chunk;
    return chunk === undefined ? undefined : new Uint8Array(chunk as Uint8Array);
  }

  #writeValidatorSets(sets: ReadonlyMap<Hash, ValidatorSet>): void {
    for (const [hash, set] of sets) {
      this.#run(
        'INSERT INTO validator_sets (hash, members) VALUES (?, ?) ON CONFLICT DO NOTHING',
        hashBytes(hash),
        validatorSetCodec.enc(set),
      );
    }
  }

  #transaction(write: () => void): void {
    try {
      this.#db.exec('BEGIN IMMEDIATE');
      write();
      this.#db.exec('COMMIT');
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      throw storeError(this.#path, error);
    }
  }

  /** A finalized block and its commit. */
  block(height: number): { block: Block; commit: Commit } | undefined {
    const row = this.#get('SELECT block, finality FROM blocks WHERE height = ?', height);
    if (row === undefined) return undefined;
    return { block: decodeBlock(row.block as Uint8Array), commit: decodeCommit(row.finality as Uint8Array) };
  }

  /** Header and commit of a finalized block; its body, which may have a megabyte, is not read. */
  header(height: number): { header: Header; commit: Commit } | undefined {
    const sql = 'SELECT substr(block, 1, ?) AS start, finality FROM blocks WHERE height = ?';
    const row = this.#get(sql, HEADER_PREFIX_BYTES, height);
    if (row === undefined) return undefined;
    return { header: headerOfBlock(row.start as Uint8Array), commit: decodeCommit(row.finality as Uint8Array) };
  }

  /**
   * Blocks from `fromHeight` on with their commits, as they are stored. Ends where one is missing, at `maxBlocks`, and
   * before the first for which `maxBytes` are there already. Blocks the thread for as long as it takes to read so many.
   */
  encodedBlocks(query: { readonly fromHeight: number; readonly maxBytes: number; readonly maxBlocks: number }): {
    block: Uint8Array;
    commit: Uint8Array;
  }[] {
    const { fromHeight, maxBytes, maxBlocks } = query;
    const found: { block: Uint8Array; commit: Uint8Array }[] = [];
    let bytes = 0;
    try {
      // Not `all`, which would read blocks of a hundred full answers before the first is looked at.
      const rows = this.#db
        .prepare('SELECT height, block, finality FROM blocks WHERE height >= ? ORDER BY height LIMIT ?')
        .iterate(fromHeight, maxBlocks);
      for (const { height, block, finality } of rows) {
        if (height !== fromHeight + found.length) break;
        const entry = { block: block as Uint8Array, commit: finality as Uint8Array };
        found.push(entry);
        bytes += entry.block.length + entry.commit.length;
        if (bytes >= maxBytes) break;
      }
    } catch (error) {
      throw storeError(this.#path, error);
    }
    return found;
  }

  /** Height of the block with that id. */
  heightOf(id: Hash): number | undefined {
    const height = this.#get('SELECT height FROM blocks WHERE id = ?', hashBytes(id))?.height;
    return height === undefined ? undefined : Number(height);
  }

  /** Every entry of the state after the last block. */
  *state(): IterableIterator<readonly [string, Uint8Array]> {
    try {
      for (const row of this.#db.prepare('SELECT key, value FROM state').iterate()) {
        yield [row.key as string, new Uint8Array(row.value as Uint8Array)];
      }
    } catch (error) {
      throw storeError(this.#path, error);
    }
  }

  /** What became of a transaction, once a block holds it. */
  receipt(id: Hash): StoredReceipt | undefined {
    const row = this.#get('SELECT * FROM receipts WHERE id = ?', hashBytes(id));
    return row === undefined ? undefined : receiptOf(row);
  }

  /** Receipts of a block, in the order of its transactions. */
  receiptsAt(height: number): StoredReceipt[] {
    return this.#prepare('SELECT * FROM receipts WHERE height = ? ORDER BY position').all(height).map(receiptOf);
  }

  /**
   * Events after a cursor (undefined: from the oldest that is kept), in order, of these types only where some are given.
   * Throws {@link CursorTooOldError} when events after the cursor are no longer kept.
   */
  events(query: {
    readonly after?: EventCursor;
    readonly types?: readonly string[];
    readonly limit: number;
  }): StoredEvent[] {
    const { after, types, limit } = query;
    const oldest = Math.max(1, this.height - EVENT_WINDOW_BLOCKS + 1);
    if (after !== undefined && after.height < oldest - 1)
      throw new CursorTooOldError(
        `events before height ${oldest} are no longer kept: read the state, then go on from here`,
      );
    const { height, position } = after ?? { height: 0, position: 0 };
    const rows = this.#prepare(
      `SELECT height, position, type, body FROM events WHERE (height, position) > (?, ?)
       AND (? IS NULL OR type IN (SELECT value FROM json_each(?))) ORDER BY height, position LIMIT ?`,
    ).all(height, position, ...(types === undefined ? [null, null] : [1, JSON.stringify(types)]), limit);
    return rows.map((row) => ({
      height: Number(row.height),
      position: Number(row.position),
      type: row.type as string,
      body: row.body as string,
    }));
  }

  /** Cursor of the last event. */
  get lastEvent(): EventCursor {
    const row = this.#get('SELECT height, position FROM events ORDER BY height DESC, position DESC LIMIT 1');
    return row === undefined
      ? { height: 0, position: 0 }
      : { height: Number(row.height), position: Number(row.position) };
  }

  /** Hash of the validator set that decided the block at a height. */
  validatorsHashAt(height: number): Hash | undefined {
    const hash = this.#get('SELECT validators FROM blocks WHERE height = ?', height)?.validators;
    return hash === undefined ? undefined : hashFromBytes(hash as Uint8Array);
  }

  /** The validator set with that hash, once a header named it. */
  validatorSet(hash: Hash): ValidatorSet | undefined {
    const members = this.#get('SELECT members FROM validator_sets WHERE hash = ?', hashBytes(hash))?.members;
    return members === undefined ? undefined : validatorSetCodec.dec(new Uint8Array(members as Uint8Array));
  }

  /** Closes the file. The store cannot be used afterwards. */
  close(): void {
    if (this.#db.isOpen) this.#db.close();
  }
}

function receiptOf(row: Record<string, unknown>): StoredReceipt {
  return {
    id: hashFromBytes(row.id as Uint8Array),
    height: Number(row.height),
    position: Number(row.position),
    signer: accountFromPublicKey(row.signer as Uint8Array),
    nonce: Number(row.nonce),
    call: row.call as Receipt['call'],
    error: (row.error ?? undefined) as Receipt['error'],
  };
}
