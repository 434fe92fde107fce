import { createHash } from 'node:crypto';
import { base58btc } from 'multiformats/bases/base58';
import { CID } from 'multiformats/cid';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ChunkBitmap } from '../../node/blobs/chunk-bitmap.ts';
import {
  CHUNK_BYTES,
  chunkLength,
  cidText,
  contentId,
  hashChunk,
  makeManifest,
  readManifest,
} from '../../node/blobs/manifest.ts';
import { isContentId } from '../../node/chain/content-id.ts';

const code = (fn: () => unknown): string => {
  try {
    fn();
  } catch (error) {
    return (error as { code: string }).code;
  }
  return 'returned';
};

test('the encoding of a manifest, byte by byte, and its CID', () => {
  const chunk = new TextEncoder().encode('abc');
  const { cid, encoded } = makeManifest(3, [hashChunk(chunk)]);
  const expected = Buffer.concat([
    Buffer.from('01' + '0300000000000000' + '00001000' + '04', 'hex'),
    Buffer.from('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad', 'hex'),
  ]);
  assert.is(Buffer.from(encoded).toString('hex'), expected.toString('hex'));
  // CIDv1 = 0x01, raw = 0x55, sha2-256 = 0x12, 32 bytes = 0x20; multibase "b" is base32.
  const bytes = Buffer.concat([Buffer.from('01551220', 'hex'), createHash('sha256').update(expected).digest()]);
  const alphabet = 'abcdefghijklmnopqrstuvwxyz234567';
  let bits = '';
  for (const byte of bytes) bits += byte.toString(2).padStart(8, '0');
  const text = (bits.match(/.{1,5}/g) ?? []).map((five) => alphabet[Number.parseInt(five.padEnd(5, '0'), 2)]).join('');
  assert.is(cid, `b${text}`);
  assert.is(readManifest(cid, encoded).size, 3);
});

test('sizes around the chunk size', () => {
  for (const [size, count, last] of [
    [0, 0, 0],
    [1, 1, 1],
    [CHUNK_BYTES - 1, 1, CHUNK_BYTES - 1],
    [CHUNK_BYTES, 1, CHUNK_BYTES],
    [CHUNK_BYTES + 1, 2, 1],
  ] as const) {
    const manifest = makeManifest(
      size,
      Array.from({ length: count }, () => hashChunk(new Uint8Array(0))),
    );
    if (count > 0) assert.is(chunkLength(manifest, count - 1), last);
    assert.equal(readManifest(manifest.cid, manifest.encoded).chunks.length, count);
    assert.is(
      code(() => makeManifest(size, [...manifest.chunks, hashChunk(new Uint8Array(0))])),
      'ERR_INVALID_MANIFEST',
    );
  }
});

test('only the exact bytes that the CID names are a manifest', () => {
  const { cid, encoded } = makeManifest(5, [hashChunk(new Uint8Array(5))]);
  const other = makeManifest(6, [hashChunk(new Uint8Array(6))]);
  assert.is(
    code(() => readManifest(cid, other.encoded)),
    'ERR_INVALID_MANIFEST',
  );
  assert.is(
    code(() => readManifest(cid, encoded.subarray(1))),
    'ERR_INVALID_MANIFEST',
  );
  assert.is(
    code(() => readManifest(cid, Buffer.concat([encoded, Buffer.alloc(1)]))),
    'ERR_INVALID_MANIFEST',
  );
  assert.is(
    code(() => readManifest(cid, new Uint8Array(2_000_000))),
    'ERR_INVALID_MANIFEST',
  );
});

test('a self-contradicting manifest with the right hash is refused', () => {
  const { encoded } = makeManifest(5, [hashChunk(new Uint8Array(5))]);
  for (const change of [
    (bytes: Uint8Array) => (bytes[0] = 2), // version
    (bytes: Uint8Array) => (bytes[3] = 0x40), // size of 4 MiB with one chunk
    (bytes: Uint8Array) => (bytes[8] = 0xff), // size of 2^63 and more
    (bytes: Uint8Array) => (bytes[10] = 1), // chunk size
    (bytes: Uint8Array) => (bytes[13] = 8), // two chunks announced, one there
  ]) {
    const bytes = encoded.slice();
    change(bytes);
    const cid = cidText(createHash('sha256').update(bytes).digest());
    assert.is(
      code(() => readManifest(cid, bytes)),
      'ERR_NOT_A_BLOB',
      change.toString(),
    );
  }
});

test('one spelling of a CID is canonical, and each blob has it', () => {
  for (let i = 0; i < 200; i++) {
    const digest = createHash('sha256').update(String(i)).digest();
    const text = cidText(digest);
    assert.ok(isContentId(text), text);
    const cid = CID.parse(text);
    assert.is(contentId(cid.toString(base58btc)), text);
    const others = [
      cid.toString(base58btc),
      text.toUpperCase(),
      `${text} `,
      `${text}a`,
      text.slice(0, -1),
      // Padding bits that are not zero: a lenient decoder takes them for the same bytes.
      `${text.slice(0, -1)}${'bcdfghjklnoprstvwxz23567'[i % 24]}`,
      CID.createV1(0x70, cid.multihash).toString(),
      CID.createV0(cid.multihash as Parameters<typeof CID.createV0>[0]).toString(),
    ];
    for (const other of others) assert.not.ok(isContentId(other), other);
  }
  for (const digest of [Buffer.alloc(32), Buffer.alloc(32, 0xff)]) assert.ok(isContentId(cidText(digest)));
});

test('bitmaps', () => {
  const bitmap = new ChunkBitmap(10);
  bitmap.set(0);
  bitmap.set(9);
  bitmap.set(9);
  bitmap.set(10);
  assert.is(bitmap.count, 2);
  assert.equal([...bitmap.bytes], [1, 2]);
  const copy = ChunkBitmap.from(bitmap.bytes, 10);
  assert.ok(copy?.has(9) && !copy.has(8) && copy.count === 2);
  assert.is(ChunkBitmap.from(new Uint8Array(3), 10), undefined);
  assert.is(ChunkBitmap.from(Uint8Array.of(0xff, 0xff), 10)?.count, 10, 'bits beyond the end do not count');
  bitmap.clear(9);
  assert.ok(!bitmap.complete && bitmap.count === 1);
  assert.ok(new ChunkBitmap(0).complete);
});

test.run();
