import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import library from 'gpt-tokenizer/encoding/r50k_base';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  createTokenizer,
  END_OF_TEXT,
  FULL_VOCABULARY,
  MAX_PIECE_LENGTH,
  type Tokenizer,
} from '../../corpus/tokenizer/tokenizer.ts';
import { randomText, seededIntegers } from './seeded.ts';

/** The ranks as OpenAI publishes them: another file than the one the tokenizer reads. Names are byte strings. */
const published: string[] = readFileSync(
  createRequire(import.meta.url).resolve('gpt-tokenizer/data/r50k_base.tiktoken'),
  'latin1',
)
  .trim()
  .split('\n')
  .map((line) => Buffer.from(line.split(' ')[0], 'base64').toString('latin1'));

/** Split pattern of GPT-2 (encoder.py), written out here on purpose. */
const GPT2_PIECES = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

/** Byte-pair encoding in the plainest form: join the leftmost pair of lowest rank until none is known. */
function naiveEncode(text: string, ranks: ReadonlyMap<string, number>): number[] {
  return [...text.matchAll(GPT2_PIECES)].flatMap(([piece]) => {
    const parts = [...Buffer.from(piece, 'utf8').toString('latin1')];
    for (;;) {
      let best = Number.POSITIVE_INFINITY;
      let at = -1;
      for (let i = 0; i + 1 < parts.length; i++) {
        const rank = ranks.get(parts[i] + parts[i + 1]) ?? Number.POSITIVE_INFINITY;
        if (rank < best) [best, at] = [rank, i];
      }
      if (at === -1) return parts.map((part) => ranks.get(part)!);
      parts.splice(at, 2, parts[at] + parts[at + 1]);
    }
  });
}

const ranksBelow = (count: number) => new Map(published.slice(0, count).map((name, rank) => [name, rank]));
const libraryEncode = (text: string) => library.encode(text, { disallowedSpecial: new Set() });

const tokenizers = new Map<number, Tokenizer>();
for (const vocabulary of [512, 513, 1000, 4096, 16_384, 50_256, FULL_VOCABULARY]) {
  tokenizers.set(vocabulary, createTokenizer(vocabulary));
}
const full = tokenizers.get(FULL_VOCABULARY)!;

test('every merged token consists of two tokens of lower rank, so each prefix of the list is closed', () => {
  const ranks = ranksBelow(published.length);
  for (let rank = 256; rank < published.length; rank++) {
    const name = published[rank];
    const possible = Array.from({ length: name.length - 1 }, (_, split) =>
      Math.max(
        ranks.get(name.slice(0, split + 1)) ?? Number.POSITIVE_INFINITY,
        ranks.get(name.slice(split + 1)) ?? Number.POSITIVE_INFINITY,
      ),
    );
    assert.ok(Math.min(...possible) < rank, `rank ${rank} cannot be built`);
  }
});

test('decoding what was encoded gives the text, for every vocabulary', () => {
  const integer = seededIntegers(1);
  for (let round = 0; round < 400; round++) {
    const text = randomText(integer, integer(120));
    for (const [vocabulary, tokenizer] of tokenizers) {
      const tokens = tokenizer.encode(text);
      assert.ok(
        tokens.every((token) => token < vocabulary - 1),
        'a token beyond the vocabulary, or end-of-text',
      );
      assert.is(tokenizer.decode(tokens), text);
    }
  }
});

test('the full vocabulary encodes as the library does', () => {
  const integer = seededIntegers(2);
  for (let round = 0; round < 1500; round++) {
    const text = randomText(integer, integer(100));
    assert.equal([...full.encode(text)], libraryEncode(text), JSON.stringify(text));
  }
});

test('prefixes encode as the plain algorithm does', () => {
  const integer = seededIntegers(3);
  for (const [vocabulary, tokenizer] of tokenizers) {
    const ranks = ranksBelow(vocabulary - 1);
    for (let round = 0; round < 150; round++) {
      const text = randomText(integer, integer(80)) + 'abacabadabacaba'.slice(integer(15)).repeat(integer(6));
      assert.equal([...tokenizer.encode(text)], naiveEncode(text, ranks), `${vocabulary}: ${JSON.stringify(text)}`);
    }
  }
});

test('long runs of one kind encode as the plain algorithm does', () => {
  const integer = seededIntegers(4);
  for (const vocabulary of [512, 4096, FULL_VOCABULARY]) {
    const ranks = ranksBelow(vocabulary - 1);
    for (const alphabet of ['a', 'ab', 'etaoinshrdlu', '=', ' ', '日本']) {
      const run = Array.from({ length: 700 }, () => alphabet[integer(alphabet.length)]).join('');
      assert.equal([...tokenizers.get(vocabulary)!.encode(run)], naiveEncode(run, ranks));
    }
  }
});

test('known tokens of GPT-2', () => {
  // From OpenAI's own tokenizer: "hello world" and "Hello, world!" are in the documentation of tiktoken.
  assert.equal([...full.encode('hello world')], [31373, 995]);
  assert.equal([...full.encode('Hello, world!')], [15496, 11, 995, 0]);
  assert.is(full.endOfText, 50_256);
});

test('the text of the end-of-text token is ordinary text', () => {
  for (const [vocabulary, tokenizer] of tokenizers) {
    assert.is(tokenizer.endOfText, vocabulary - 1);
    const tokens = tokenizer.encode(`a${END_OF_TEXT}b`);
    assert.not.ok(tokens.includes(tokenizer.endOfText));
    assert.is(tokenizer.decode(tokens), `a${END_OF_TEXT}b`);
    assert.is(tokenizer.decode([...tokenizer.encode('a'), tokenizer.endOfText]), `a${END_OF_TEXT}`);
    assert.is(tokenizer.tokenBytes(tokenizer.endOfText).length, 0);
  }
});

test('the same text encodes the same when it is answered from the cache, also after the cache has turned over', () => {
  const integer = seededIntegers(5);
  const tokenizer = createTokenizer(4096);
  const text = randomText(integer, 300);
  const first = tokenizer.encode(text);
  assert.equal(tokenizer.encode(text), first);
  for (let i = 0; i < 150; i++) {
    tokenizer.encode(Array.from({ length: 1000 }, () => ` w${integer(1e9).toString(36).replace(/\d/g, 'q')}`).join(''));
  }
  assert.equal(tokenizer.encode(text), first);
});

test('a run of a million letters without a space takes no quadratic time and loses nothing', () => {
  const integer = seededIntegers(6);
  const letters = Array.from({ length: 1_000_003 }, () => String.fromCharCode(97 + integer(26))).join('');
  for (const text of [letters, '😀'.repeat(MAX_PIECE_LENGTH), `=${'😀'.repeat(MAX_PIECE_LENGTH)}`]) {
    assert.ok(full.decode(full.encode(text)) === text);
  }
});

test('lone surrogates become U+FFFD; tokens that hold half a character do not break the others', () => {
  assert.is(full.decode(full.encode('a\ud800b\udc00')), 'a\ufffdb\ufffd');
  const halves = full.encode('日');
  assert.ok(halves.length > 1);
  assert.is(full.decode(halves.subarray(0, 1)), '\ufffd');
  // The library keeps the half in a shared decoder and adds it to the next text.
  assert.is(full.decode(full.encode('ok')), 'ok');
  assert.is(Buffer.concat([...halves].map((token) => full.tokenBytes(token))).toString('utf8'), '日');
});

test('empty text has no tokens', () => {
  assert.is(full.encode('').length, 0);
  assert.is(full.decode([]), '');
});

test('vocabularies and tokens out of range are refused', () => {
  for (const vocabulary of [0, 511, 50_258, 4096.5, Number.NaN, -1]) {
    assert.throws(
      () => createTokenizer(vocabulary),
      (error: { code: string }) => error.code === 'ERR_VOCABULARY',
    );
  }
  const small = tokenizers.get(512)!;
  for (const token of [512, 50_000, -1, 1.5]) {
    assert.throws(
      () => small.decode([token]),
      (error: { code: string }) => error.code === 'ERR_TOKEN_UNKNOWN',
    );
  }
});

test.run();
