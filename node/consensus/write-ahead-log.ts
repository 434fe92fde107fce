/**
 * The write-ahead log: the inputs of the height that is being decided, in the order in which the core took them. Replayed
 * at start, it brings back the votes seen, the lock and the valid value.
 *
 * Records wait in memory until something of this node is about to leave it and are then written and synced in one piece:
 * an input that was lost before that has had no consequence that anyone else can have seen.
 */
import { _void, Bytes, bool, type CodecType, Enum, Struct, u8, u32 } from 'scale-ts';
import { MAX_BLOCK_BYTES } from '../chain/block.ts';
import { DecodeError, decodeStrict } from '../chain/codec.ts';
import { FramedLog } from './framed-log.ts';
import type { Logger } from './logger.ts';
import type { Directory } from './storage.ts';

const FILE_NAME = 'consensus.wal';
/** A proposal with its block, and the little that is around it. */
const MAX_RECORD_BYTES = MAX_BLOCK_BYTES + 1024;

const recordCodec = Struct({
  height: u32,
  input: Enum({
    start: _void,
    /** Encoded proposal with the verdicts of application and clock, so that a replay does not depend on either. */
    proposal: Struct({ bytes: Bytes(), valid: bool, timely: bool }),
    /** Encoded vote. */
    vote: Bytes(),
    /** Index into {@link WAL_TIMEOUTS}. */
    timeout: Struct({ kind: u8, round: u32 }),
  }),
});
/** One input of one height. */
export type WalRecord = CodecType<typeof recordCodec>;

/** Timeout kinds by their number in the log. */
export const WAL_TIMEOUTS = ['propose', 'prevote', 'precommit'] as const;

/** See the head of this file. */
export class WriteAheadLog {
  readonly #log: FramedLog;

  private constructor(log: FramedLog) {
    this.#log = log;
  }

  /** Opens the log, cuts a torn end, and returns the records that were in it. */
  static async open(directory: Directory, logger: Logger): Promise<{ wal: WriteAheadLog; records: WalRecord[] }> {
    const { log, records, cutBytes } = await FramedLog.open(await directory.open(FILE_NAME), MAX_RECORD_BYTES);
    if (cutBytes > 0) logger.warn({ cutBytes }, 'write-ahead log: cut off an incomplete record at the end');
    const decoded: WalRecord[] = [];
    for (const bytes of records) {
      try {
        decoded.push(decodeStrict(recordCodec, bytes, MAX_RECORD_BYTES, 'write-ahead log'));
      } catch (error) {
        if (!(error instanceof DecodeError)) throw error;
        // Passed its checksum and is unknown: written by another version. The signer guard keeps what follows safe.
        logger.error({ error: error.message }, 'write-ahead log: unknown record; the rest of the log is ignored');
        break;
      }
    }
    return { wal: new WriteAheadLog(log), records: decoded };
  }

  /** Queues a record. */
  append(record: WalRecord): void {
    this.#log.append(recordCodec.enc(record));
  }

  /** Resolves when all queued records are durable. */
  async sync(): Promise<void> {
    await this.#log.sync();
  }

  /** Empties the log: the height is final in the application's store. */
  async reset(): Promise<void> {
    await this.#log.reset();
  }

  async close(): Promise<void> {
    await this.#log.close();
  }
}
