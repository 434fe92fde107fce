import { createHash } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  checkShard,
  encodeManifest,
  MAX_MANIFEST_BYTES,
  type Manifest,
  parseManifest,
  readManifest,
} from '../../corpus/shard/manifest.ts';
import { encodeShard, MAX_SHARD_TOKENS, readShard, shardBytes } from '../../corpus/shard/shard.ts';
import { sampleWindows } from '../../corpus/shard/windows.ts';
import { seededIntegers, thrownBy } from './seeded.ts';

const sha256 = (data: Uint8Array) => createHash('sha256').update(data).digest('hex');

function randomShard(seed: number, vocabulary: number, length: number): { vocabulary: number; tokens: Uint16Array } {
  const integer = seededIntegers(seed);
  return { vocabulary, tokens: Uint16Array.from({ length }, () => integer(vocabulary)) };
}

/** Puts the right checksum into bytes, as someone who forges a shard would. */
function withChecksum(bytes: Uint8Array): Uint8Array {
  bytes.set(createHash('sha256').update(bytes.subarray(0, 32)).update(bytes.subarray(64)).digest(), 32);
  return bytes;
}

test('shards of both widths come back as they were written', () => {
  for (const [vocabulary, width] of [
    [512, 2],
    [50_257, 2],
    [65_536, 2],
    [65_537, 4],
    [200_000, 4],
  ]) {
    const integer = seededIntegers(vocabulary);
    const tokens = Uint32Array.from({ length: 1000 }, () => integer(vocabulary));
    tokens[0] = vocabulary - 1;
    const bytes = encodeShard({ vocabulary, tokens });
    assert.is(bytes.length, 64 + 1000 * width);
    assert.is(bytes.length, shardBytes(vocabulary, 1000));
    const shard = readShard(bytes);
    assert.is(shard.vocabulary, vocabulary);
    assert.equal([...shard.tokens], [...tokens]);
    assert.ok(width === 2 ? shard.tokens instanceof Uint16Array : shard.tokens instanceof Uint32Array);
  }
});

test('the bytes of a shard are fixed', () => {
  const bytes = encodeShard({ vocabulary: 512, tokens: Uint16Array.of(1, 258, 511) });
  assert.is(
    Buffer.from(bytes.subarray(0, 32)).toString('hex'),
    `${Buffer.from('ALICESHD').toString('hex')}${'01000200000200000300000000000000'}${'0000000000000000'}`,
  );
  assert.is(Buffer.from(bytes.subarray(64)).toString('hex'), '01000201ff01');
});

test('a shard reads from any position in a buffer, and keeps no hold of it', () => {
  const bytes = encodeShard(randomShard(1, 4096, 100));
  for (const shift of [1, 2, 3, 7]) {
    const moved = new Uint8Array(bytes.length + shift);
    moved.set(bytes, shift);
    const shard = readShard(moved.subarray(shift));
    const before = [...shard.tokens];
    moved.fill(0xff);
    assert.equal([...shard.tokens], before);
  }
});

test('a shard cut short or grown at any length is refused', async () => {
  const bytes = encodeShard(randomShard(2, 4096, 40));
  for (let length = 0; length < bytes.length; length++) {
    assert.is((await thrownBy(() => readShard(bytes.subarray(0, length)))).code, 'ERR_SHARD_INVALID');
  }
  assert.is((await thrownBy(() => readShard(Buffer.concat([bytes, Buffer.of(0)])))).code, 'ERR_SHARD_INVALID');
});

test('one flipped bit anywhere, header included, is noticed', async () => {
  const bytes = encodeShard(randomShard(3, 4096, 40));
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const damaged = new Uint8Array(bytes);
    damaged[bit >> 3] ^= 1 << (bit & 7);
    assert.is((await thrownBy(() => readShard(damaged))).code, 'ERR_SHARD_INVALID', `bit ${bit}`);
  }
});

test('forged shards with a right checksum are refused: version, width, vocabulary, counts, tokens', async () => {
  const edits: [string, (view: DataView) => void][] = [
    ['version', (view) => view.setUint16(8, 2, true)],
    ['width', (view) => view.setUint16(10, 4, true)],
    ['vocabulary of zero', (view) => view.setUint32(12, 0, true)],
    ['vocabulary too large', (view) => view.setUint32(12, 0xffffffff, true)],
    ['no tokens', (view) => view.setUint32(16, 0, true)],
    ['more tokens than there are', (view) => view.setUint32(16, 41, true)],
    ['count that overflows', (view) => view.setUint32(16, 0x80000028, true)],
    ['unknown field', (view) => view.setUint8(31, 1)],
    ['token beyond the vocabulary', (view) => view.setUint16(64, 4096, true)],
  ];
  for (const [name, edit] of edits) {
    const bytes = encodeShard(randomShard(4, 4096, 40));
    edit(new DataView(bytes.buffer, bytes.byteOffset));
    assert.is((await thrownBy(() => readShard(withChecksum(bytes)))).code, 'ERR_SHARD_INVALID', name);
  }
  assert.match((await thrownBy(() => readShard(Buffer.from('ALICESHX'.padEnd(64))))).message, 'magic');
});

test('random bytes never do more than throw', async () => {
  const integer = seededIntegers(5);
  for (let round = 0; round < 3000; round++) {
    const bytes = Uint8Array.from({ length: integer(200) }, () => integer(256));
    if (integer(2) === 0) bytes.set(Buffer.from('ALICESHD').subarray(0, bytes.length));
    assert.is((await thrownBy(() => readShard(bytes))).code, 'ERR_SHARD_INVALID');
  }
});

test('what could not be read is not written', async () => {
  const bad = [
    { vocabulary: 4, tokens: Uint16Array.of(4) },
    { vocabulary: 4, tokens: new Uint16Array(0) },
    { vocabulary: 0, tokens: Uint16Array.of(0) },
    { vocabulary: 4, tokens: new Uint16Array(MAX_SHARD_TOKENS + 1) },
  ];
  for (const shard of bad) assert.is((await thrownBy(() => encodeShard(shard))).code, 'ERR_SHARD_INVALID');
});

const seedOf = (byte: number) => new Uint8Array(32).fill(byte);

test('windows: the same seed draws the same, another seed others; the draw is pinned', () => {
  const shards = [randomShard(6, 4096, 500), randomShard(7, 4096, 300)];
  const sample = { seed: seedOf(1), count: 20, context: 16 };
  const windows = sampleWindows(shards, sample);
  assert.is(windows.length, 20 * 17);
  assert.ok(windows instanceof Int32Array);
  assert.equal(sampleWindows(shards, sample), windows);
  assert.not.equal(sampleWindows(shards, { ...sample, seed: seedOf(2) }), windows);
  // More windows begin with the same ones.
  assert.equal(sampleWindows(shards, { ...sample, count: 50 }).slice(0, windows.length), windows);
  // Computed apart, from the definition: SHA-256("alice/sample-windows/1" | seed | 0), 48-bit little-endian numbers.
  const ramp = { vocabulary: 4096, tokens: Uint16Array.from({ length: 1000 }, (_, index) => index) };
  const block = createHash('sha256')
    .update('alice/sample-windows/1')
    .update(seedOf(1))
    .update(Buffer.alloc(4))
    .digest();
  const starts = [0, 6, 12, 18, 24].map((offset) => Number(BigInt(block.readUIntLE(offset, 6)) % 990n));
  const drawn = sampleWindows([ramp], { seed: seedOf(1), count: 5, context: 10 });
  assert.equal(
    [0, 1, 2, 3, 4].map((row) => drawn[row * 11]),
    starts,
  );
});

test('windows: consecutive tokens of one shard, every start possible and equally likely', () => {
  // Shard i holds i * 1000 + position, so a window tells where it is from.
  const lengths = [30, 5, 12, 50];
  const shards = lengths.map((length, index) => ({
    vocabulary: 4096,
    tokens: Uint16Array.from({ length }, (_, position) => index * 1000 + position),
  }));
  const context = 8;
  const count = 66 * 400;
  const windows = sampleWindows(shards, { seed: seedOf(3), count, context });
  const starts = new Map<number, number>();
  for (let row = 0; row < count; row++) {
    const first = windows[row * (context + 1)];
    starts.set(first, (starts.get(first) ?? 0) + 1);
    for (let i = 0; i <= context; i++) assert.is(windows[row * (context + 1) + i], first + i);
  }
  const expected = lengths.flatMap((length, index) =>
    Array.from({ length: Math.max(0, length - context) }, (_, start) => index * 1000 + start),
  );
  assert.equal(
    [...starts.keys()].sort((a, b) => a - b),
    expected,
  );
  // 400 expected each; six standard deviations are 120.
  for (const [start, times] of starts) assert.ok(Math.abs(times - 400) < 120, `start ${start}: ${times} times`);
});

test('windows: what cannot be drawn is refused', async () => {
  const shards = [randomShard(8, 4096, 100)];
  const cases = [
    [shards, { seed: new Uint8Array(31), count: 1, context: 8 }],
    [shards, { seed: seedOf(1), count: 0, context: 8 }],
    [shards, { seed: seedOf(1), count: 1.5, context: 8 }],
    [shards, { seed: seedOf(1), count: 2 ** 40, context: 8 }],
    [shards, { seed: seedOf(1), count: 1, context: 0 }],
    [shards, { seed: seedOf(1), count: 1, context: 100 }],
    [[], { seed: seedOf(1), count: 1, context: 8 }],
    [[...shards, randomShard(9, 512, 100)], { seed: seedOf(1), count: 1, context: 8 }],
  ] as const;
  for (const [from, sample] of cases) {
    assert.is((await thrownBy(() => sampleWindows(from, sample))).code, 'ERR_CORPUS_OPTION');
  }
  assert.is(sampleWindows(shards, { seed: seedOf(1), count: 1, context: 99 }).length, 100);
});

const files = [10, 11, 12].map((seed) => encodeShard(randomShard(seed, 4096, 300)));
const entries = files.map((bytes) => ({ file: `${sha256(bytes)}.shard`, sha256: sha256(bytes), tokens: 300 }));
const manifest: Manifest = {
  format: 'alice-corpus/1',
  tokenizer: { name: 'r50k_base-prefix', vocabulary: 4096, endOfText: 4095 },
  shardTokens: 300,
  seed: '00'.repeat(32),
  source: { kind: 'files', description: 'a.txt', files: 1, bytes: 1 },
  totals: { documents: 1, heldOutDocuments: 1, duplicates: 0, textBytes: 1, tokens: 900, droppedTokens: 0 },
  training: entries.slice(0, 2),
  heldOut: entries.slice(2),
};

test('a manifest comes back as it was written', () => {
  assert.equal(parseManifest(encodeManifest(manifest)), manifest);
});

test('a manifest that is damaged, foreign or contradicts itself is refused', async () => {
  const text = Buffer.from(encodeManifest(manifest)).toString();
  const [first] = manifest.training;
  const outside = { ...first, file: '../../etc/passwd' };
  const bad: [string, Uint8Array | object][] = [
    ['empty', new Uint8Array(0)],
    ['cut short', Buffer.from(text.slice(0, text.length / 2))],
    ['not UTF-8', Buffer.concat([Buffer.from(text), Buffer.of(0xff)])],
    ['too large', Buffer.alloc(MAX_MANIFEST_BYTES + 1, ' ')],
    ['null', Buffer.from('null')],
    ['another version', { ...manifest, format: 'alice-corpus/2' }],
    ['unknown field', { ...manifest, extra: 1 }],
    ['vocabulary', { ...manifest, tokenizer: { ...manifest.tokenizer, vocabulary: 4097 } }],
    ['no held-out shard', { ...manifest, heldOut: [] }],
    ['no training shard', { ...manifest, training: [] }],
    ['path out of the folder', { ...manifest, training: [outside, manifest.training[1]] }],
    ['file not named by its hash', { ...manifest, training: [{ ...first, file: manifest.training[1].file }] }],
    ['other length', { ...manifest, training: [{ ...first, tokens: 299 }, manifest.training[1]] }],
    ['held out and trained on', { ...manifest, heldOut: [first] }],
    ['negative count', { ...manifest, totals: { ...manifest.totals, tokens: -1 } }],
  ];
  for (const [name, value] of bad) {
    const bytes = value instanceof Uint8Array ? value : Buffer.from(JSON.stringify(value));
    const error = await thrownBy(() => parseManifest(bytes));
    assert.is(error.code, 'ERR_MANIFEST_INVALID', name);
    assert.not.match(error.message, '\n');
  }
  assert.is((await thrownBy(() => readManifest('/nowhere/at/all'))).code, 'ERR_MANIFEST_INVALID');
});

test('a shard is accepted only as the bytes that the manifest names', async () => {
  assert.is(checkShard(files[0], manifest, entries[0]).tokens.length, 300);
  assert.is((await thrownBy(() => checkShard(files[1], manifest, entries[0]))).code, 'ERR_SHARD_INVALID');
  // Right hash, other vocabulary than the manifest says.
  const foreign = encodeShard(randomShard(13, 512, 300));
  const entry = { file: `${sha256(foreign)}.shard`, sha256: sha256(foreign), tokens: 300 };
  assert.is((await thrownBy(() => checkShard(foreign, manifest, entry))).code, 'ERR_SHARD_INVALID');
});

test.run();
