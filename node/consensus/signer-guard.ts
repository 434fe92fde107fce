/**
 * The only way to a validator's session key. It signs one message for each (height, round, step), in ascending order,
 * and remembers on disk what it signed: a validator that crashed, was started twice from a copy of its log, or has a
 * fault elsewhere still cannot contradict itself.
 */
import { Bytes, Struct, u8, u32 } from 'scale-ts';
import { type ProposalBody, proposalSignBytes, VOTE_TYPES, type VoteBody, voteSignBytes } from '../chain/block.ts';
import { decodeStrict, hashCodec } from '../chain/codec.ts';
import { domainHash, type Hash } from '../chain/hash.ts';
import type { SessionSigner } from '../identity/signatures.ts';
import { FramedLog, frame } from './framed-log.ts';
import type { Directory } from './storage.ts';

const FILE_NAME = 'signer.log';
/** A record has 137 bytes. */
const MAX_RECORD_BYTES = 256;
/** The file is rewritten with its last record only when it passes this size. */
const COMPACT_BYTES = 64 * 1024;

/** Order of the messages of a round. */
const STEPS = ['proposal', 'prevote', 'precommit'] as const;

const recordCodec = Struct({
  height: u32,
  round: u32,
  /** Index into STEPS. */
  step: u8,
  /** Hash of the bytes that were signed. */
  message: hashCodec,
  signature: Bytes(64),
});

/** What was signed last. */
export interface SignedPosition {
  readonly height: number;
  readonly round: number;
  /** 0 proposal, 1 prevote, 2 precommit. */
  readonly step: number;
  readonly message: Hash;
  readonly signature: Uint8Array;
}

/** Thrown when the key was already used for this step or a later one. */
export class DoubleSignRefusedError extends Error {
  static readonly code = 'ERR_DOUBLE_SIGN_REFUSED';
  readonly code = DoubleSignRefusedError.code;
  override readonly name = 'DoubleSignRefusedError';
}

/** Negative when `a` comes before `b`. */
export function comparePositions(
  a: Pick<SignedPosition, 'height' | 'round' | 'step'>,
  b: Pick<SignedPosition, 'height' | 'round' | 'step'>,
): number {
  return a.height - b.height || a.round - b.round || a.step - b.step;
}

/** See the head of this file. */
export class SignerGuard {
  readonly #directory: Directory;
  readonly #networkId: Uint8Array;
  readonly #session: SessionSigner;
  #log: FramedLog;
  #last: SignedPosition | undefined;

  private constructor(
    directory: Directory,
    networkId: Uint8Array,
    session: SessionSigner,
    log: FramedLog,
    last: SignedPosition | undefined,
  ) {
    this.#directory = directory;
    this.#networkId = networkId;
    this.#session = session;
    this.#log = log;
    this.#last = last;
  }

  /** Reads what was signed before. Throws DecodeError when a record passes its checksum and is none of this program's. */
  static async open(directory: Directory, networkId: Uint8Array, session: SessionSigner): Promise<SignerGuard> {
    const { log, records } = await FramedLog.open(await directory.open(FILE_NAME), MAX_RECORD_BYTES);
    const bytes = records.at(-1);
    const last = bytes && decodeStrict(recordCodec, bytes, MAX_RECORD_BYTES, 'signer record');
    return new SignerGuard(directory, networkId, session, log, last);
  }

  /** What was signed last, on disk or about to be. */
  get last(): SignedPosition | undefined {
    return this.#last;
  }

  /** Signs a vote. Must not leave the process before {@link persist}. Throws {@link DoubleSignRefusedError}. */
  signVote(body: VoteBody): Uint8Array {
    return this.#sign(body.height, body.round, 1 + body.type, voteSignBytes(this.#networkId, body));
  }

  /** Signs a proposal. Must not leave the process before {@link persist}. Throws {@link DoubleSignRefusedError}. */
  signProposal(body: ProposalBody): Uint8Array {
    return this.#sign(body.height, body.round, 0, proposalSignBytes(this.#networkId, body));
  }

  /** Learns from the write-ahead log what was signed, in case the crash came between the two files. */
  observe(kind: 'vote' | 'proposal', body: VoteBody | ProposalBody, signature: Uint8Array): void {
    const position =
      kind === 'vote'
        ? this.#position(body.height, body.round, 1 + (body as VoteBody).type, this.#voteBytes(body as VoteBody))
        : this.#position(body.height, body.round, 0, proposalSignBytes(this.#networkId, body as ProposalBody));
    if (this.#last === undefined || comparePositions(position, this.#last) > 0)
      this.#remember({ ...position, signature });
  }

  /** Resolves when everything signed so far is remembered across a crash. */
  async persist(): Promise<void> {
    await this.#log.sync();
    if (this.#log.lengthBytes < COMPACT_BYTES || this.#last === undefined) return;
    await this.#log.close();
    const file = await this.#directory.replace(FILE_NAME, frame(recordCodec.enc({ ...this.#last })));
    this.#log = (await FramedLog.open(file, MAX_RECORD_BYTES)).log;
  }

  async close(): Promise<void> {
    await this.#log.close();
  }

  #voteBytes(body: VoteBody): Uint8Array {
    return voteSignBytes(this.#networkId, body);
  }

  #position(height: number, round: number, step: number, bytes: Uint8Array) {
    return { height, round, step, message: domainHash('alice/signed-message/1', bytes) };
  }

  #remember(position: SignedPosition): void {
    this.#last = position;
    this.#log.append(recordCodec.enc({ ...position }));
  }

  #sign(height: number, round: number, step: number, bytes: Uint8Array): Uint8Array {
    const position = this.#position(height, round, step, bytes);
    const order = this.#last === undefined ? 1 : comparePositions(position, this.#last);
    if (order === 0 && this.#last?.message === position.message) return this.#last.signature;
    if (order <= 0) {
      throw new DoubleSignRefusedError(
        `height ${height} round ${round}: a ${STEPS[step]} was asked for after a ${STEPS[this.#last?.step ?? 0]} of ` +
          `height ${this.#last?.height} round ${this.#last?.round}`,
      );
    }
    const signature = this.#session.sign(bytes);
    this.#remember({ ...position, signature });
    return signature;
  }
}

/** Position of a vote in the guard's order. */
export function votePosition(body: VoteBody): Pick<SignedPosition, 'height' | 'round' | 'step'> {
  return { height: body.height, round: body.round, step: 1 + Math.min(body.type, VOTE_TYPES.length - 1) };
}
