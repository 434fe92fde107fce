/**
 * Messages between peers and the files they exchange: blob requests and answers, catch-up, manifests, shards, corpora. The
 * first byte of an input says which of them the rest is.
 */
import { CorpusError } from '../../../corpus/errors.ts';
import { parsePublishedCorpus } from '../../../corpus/publication.ts';
import { encodeShard, readShard } from '../../../corpus/shard/shard.ts';
import { BlobError } from '../../../node/blobs/errors.ts';
import { blobCid, cidDigest, cidText, hashChunk, makeManifest, readManifest } from '../../../node/blobs/manifest.ts';
import { decodeOpened, decodeRequest, encodeOpened, encodeRequest, KIND } from '../../../node/blobs/wire.ts';
import { DecodeError } from '../../../node/chain/codec.ts';
import { decodeCatchUpResponse } from '../../../node/consensus/catch-up.ts';
import { frame, readFrames } from '../../../node/consensus/framed-log.ts';
import { NetworkError } from '../../../node/network/errors.ts';
import { canonicalCap } from '../canonical.ts';
import { requireSound } from '../target.ts';

export const describe = 'blob and catch-up messages, manifests, shards, published corpora, log frames';

export const headBytes = 48;

/** Errors with which these decoders refuse. */
const EXPECTED = [DecodeError, BlobError, CorpusError, NetworkError];

const MAX_RECORD_BYTES = 1 << 20;

/** Decoders, each with the check of what it promises. */
const DECODERS: readonly ((bytes: Uint8Array) => void)[] = [
  (bytes) => {
    const again = encodeRequest(decodeRequest(bytes));
    requireSound(Buffer.compare(again, bytes) === 0, 'only canonical requests are accepted');
  },
  (bytes) => {
    const opened = decodeOpened(bytes);
    const again = opened === undefined ? Uint8Array.of(0) : encodeOpened(opened);
    requireSound(Buffer.compare(again, bytes) === 0, 'only canonical answers are accepted');
  },
  (bytes) => {
    decodeCatchUpResponse(bytes);
  },
  (bytes) => {
    // A manifest is read only under its own name, so the name is made to fit: what a liar would do.
    const { size, chunks } = readManifest(cidOfManifest(bytes), bytes);
    requireSound(chunks.length === Math.ceil(size / (1024 * 1024)), 'chunks fit the size');
  },
  (bytes) => {
    const { tokens, vocabulary } = readShard(bytes);
    requireSound(
      tokens.every((token) => token < vocabulary),
      'tokens are in the vocabulary',
    );
  },
  (bytes) => {
    parsePublishedCorpus(bytes);
  },
  (bytes) => {
    const { records, validBytes } = readFrames(bytes, MAX_RECORD_BYTES);
    const again = Buffer.concat(records.map(frame));
    requireSound(Buffer.compare(again, bytes.subarray(0, validBytes)) === 0, 'records are those of the valid prefix');
  },
  (bytes) => {
    const cid = Buffer.from(bytes).toString('latin1');
    requireSound(cidDigest(cid).length === 32, 'a CID holds 32 bytes of digest');
  },
];

/** Name of the manifest with this encoding. */
function cidOfManifest(encoded: Uint8Array): string {
  return cidText(Buffer.from(hashChunk(encoded), 'hex'));
}

/** Inputs of every kind. */
export function seeds(): Uint8Array[] {
  const digest = new Uint8Array(32).fill(5);
  const blob = new Uint8Array(1000).fill(9);
  const manifest = makeManifest(blob.length, [hashChunk(blob)]).encoded;
  const large = makeManifest(
    3 * 1024 * 1024 + 1,
    Array.from({ length: 4 }, () => hashChunk(blob)),
  ).encoded;
  const opened = { manifest, have: undefined, chunk: undefined };
  const corpus = {
    format: 'alice-corpus-publication/1',
    manifest: { format: 'alice-corpus/1', training: [], heldOut: [] },
    training: [blobCid(blob)],
    heldOut: [],
  };
  const kinds: Uint8Array[][] = [
    [encodeRequest({ kind: KIND.open, digest, index: 0 }), encodeRequest({ kind: KIND.chunk, digest, index: 70_000 })],
    [
      encodeOpened(opened),
      encodeOpened({ ...opened, have: Uint8Array.of(7) }),
      encodeOpened({ ...opened, chunk: blob }),
    ],
    // Height 5, one proposal of two bytes, two votes of one byte each (SCALE compact lengths).
    [Uint8Array.of(5, 0, 0, 0, 4, 8, 1, 2, 8, 4, 1, 4, 2), Uint8Array.of(5, 0, 0, 0, 0, 0)],
    [manifest, large],
    [512, 100_000].map((vocabulary) => encodeShard({ vocabulary, tokens: Uint32Array.of(1, 2, 3, 511) })),
    [new TextEncoder().encode(JSON.stringify(corpus))],
    [Buffer.concat([frame(Uint8Array.of(1)), frame(blob), frame(digest)])],
    [new TextEncoder().encode(blobCid(blob))],
  ];
  return kinds.flatMap((inputs, kind) => inputs.map((bytes) => Buffer.concat([Uint8Array.of(kind), bytes])));
}

export const allocationCap = canonicalCap;

export function run(input: Uint8Array): string {
  try {
    DECODERS[(input[0] ?? 0) % DECODERS.length](input.subarray(1));
    return 'accepted';
  } catch (error) {
    if (EXPECTED.some((kind) => error instanceof kind)) return (error as Error & { code: string }).code;
    throw error;
  }
}
