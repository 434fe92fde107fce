/**
 * The blob protocol `/alice/<network>/blob/1`: three questions and their answers.
 *
 * Request, 37 bytes: `kind: u8 | digest: [u8; 32] | index: u32` (SCALE). Answers start with a byte: 0 "not here", 1 "here".
 * - OPEN: after the 1, `Opened` (SCALE): manifest, the bitmap of chunks when some are missing, and the only chunk when the
 *   blob is a single one: a small blob takes one round trip.
 * - CHUNK: after the 1, the bytes of chunk `index`.
 * - HAVE: after the 1, the bitmap of chunks that are here.
 */
import { Bytes, Option, Struct, u8, u32 } from 'scale-ts';
import { DecodeError, decodeStrict } from '../chain/codec.ts';
import type { ProtocolLimits } from '../network/interface.ts';
import { CHUNK_BYTES, MAX_MANIFEST_BYTES } from './manifest.ts';

/** Name of the protocol, as `RequestResponse` takes it. */
export const BLOB_PROTOCOL = 'blob';

export const KIND = { open: 0, chunk: 1, have: 2 } as const;

const requestCodec = Struct({ kind: u8, digest: Bytes(32), index: u32 });

/** Bytes of every request. */
export const REQUEST_BYTES = 37;

/** A chunk or a manifest, a bitmap, and the framing around them. */
const MAX_RESPONSE_BYTES = Math.max(CHUNK_BYTES, MAX_MANIFEST_BYTES) + 8 * 1024;

/**
 * Limits of the protocol. The rate fits a peer that pulls a gigabyte a second; what bounds the load is the number of
 * requests at a time, each of which holds a chunk in memory: 64 MiB in all.
 */
export const BLOB_LIMITS: ProtocolLimits = {
  maxRequestBytes: REQUEST_BYTES,
  maxResponseBytes: MAX_RESPONSE_BYTES,
  timeoutMs: 30_000,
  requestsPerSecond: 1_000,
  burst: 2_000,
  maxConcurrentPerPeer: 16,
  maxConcurrent: 64,
};

export interface BlobRequest {
  readonly kind: number;
  /** Digest of the blob's CID. */
  readonly digest: Uint8Array;
  /** Index of the chunk; 0 where the kind needs none. */
  readonly index: number;
}

export function encodeRequest(request: BlobRequest): Uint8Array {
  return requestCodec.enc({ ...request });
}

/** Throws DecodeError. */
export function decodeRequest(bytes: Uint8Array): BlobRequest {
  return decodeStrict(requestCodec, bytes, REQUEST_BYTES, 'blob request');
}

const openedCodec = Struct({ manifest: Bytes(), have: Option(Bytes()), chunk: Option(Bytes()) });

/** Answer to OPEN. */
export interface Opened {
  /** Encoded manifest. */
  readonly manifest: Uint8Array;
  /** Chunks that the peer has; undefined means all. */
  readonly have: Uint8Array | undefined;
  /** The only chunk of a blob that is one. */
  readonly chunk: Uint8Array | undefined;
}

/** "Not here", for every kind of request. */
export const ABSENT = Uint8Array.of(0);

/** First byte of an answer that says "here". */
export const PRESENT = Uint8Array.of(1);

/** "Here", followed by what was asked for. */
export function encodePresent(body: Uint8Array): Uint8Array {
  const bytes = Buffer.allocUnsafeSlow(body.length + 1);
  bytes[0] = 1;
  bytes.set(body, 1);
  return bytes;
}

export function encodeOpened(opened: Opened): Uint8Array {
  return encodePresent(openedCodec.enc({ ...opened }));
}

/** What follows "here"; undefined for "not here". Throws DecodeError. */
export function decodePresent(answer: Uint8Array): Uint8Array | undefined {
  if (answer[0] === 1) return answer.subarray(1);
  if (answer[0] === 0 && answer.length === 1) return undefined;
  throw new DecodeError('blob answer: neither here nor not here');
}

/** Throws DecodeError. */
export function decodeOpened(answer: Uint8Array): Opened | undefined {
  const body = decodePresent(answer);
  if (body === undefined) return undefined;
  const { manifest, have, chunk } = decodeStrict(openedCodec, body, MAX_RESPONSE_BYTES, 'opened blob');
  return { manifest, have, chunk };
}
