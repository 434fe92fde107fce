/** Tokenizer files against an encoder written from GPT-2's own (encoder.py), which knows nothing but those files. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { InvalidVocabularyError } from '../../corpus/errors.ts';
import { huggingFaceTokenizer } from '../../corpus/tokenizer/hugging-face.ts';
import { createTokenizer } from '../../corpus/tokenizer/tokenizer.ts';

/** GPT-2's pattern, from its source. */
const PATTERN = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

/** bytes_to_unicode of encoder.py. */
function bytesToUnicode(): string[] {
  const range = (from: string, to: string) => {
    const [low, high] = [from, to].map((character) => character.charCodeAt(0));
    return Array.from({ length: high - low + 1 }, (_, i) => low + i);
  };
  const printable = [...range('!', '~'), ...range('¡', '¬'), ...range('®', 'ÿ')];
  let extra = 0;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable.includes(byte) ? byte : 256 + extra++));
}

/** The encoder of encoder.py, over the text of vocab.json and merges.txt. */
function encoderOf(files: Record<string, string>): (text: string) => number[] {
  const ids = JSON.parse(files['vocab.json']!) as Record<string, number>;
  const merges = files['merges.txt']!.split('\n').slice(1, -1);
  const ranks = new Map(merges.map((pair, rank) => [pair, rank]));
  const characters = bytesToUnicode();
  return (text) =>
    (text.match(PATTERN) ?? []).flatMap((piece) => {
      let word = Array.from(Buffer.from(piece, 'utf8'), (byte) => characters[byte]!);
      for (;;) {
        let best = Number.POSITIVE_INFINITY;
        for (let i = 1; i < word.length; i++) best = Math.min(best, ranks.get(`${word[i - 1]} ${word[i]}`) ?? best);
        if (best === Number.POSITIVE_INFINITY) break;
        const merged: string[] = [];
        for (let i = 0; i < word.length; i++) {
          if (i + 1 < word.length && ranks.get(`${word[i]} ${word[i + 1]}`) === best)
            merged.push(word[i]! + word[++i]!);
          else merged.push(word[i]!);
        }
        word = merged;
      }
      return word.map((part) => ids[part]!);
    });
}

const TEXTS = [
  "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a wife. She'll say they've 1,234 reasons; don't!",
  'naïve café, Überraschung, Привет мир, 日本語のテキスト, 👩‍👩‍👧 — “quotes” … \t\n\n   indented\r\n',
  'supercalifragilisticexpialidocious antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis',
  'function f(x) { return x ** 2 + 0xdeadbeef; } // aaaaaaaaaaaaaaaaaaaaaaaa ======== ------ ////\n',
  '\u0000\u0001\u007f\u0080\u00a0\u00ad\u00ff',
];

test('an encoder that reads the files alone gives our tokens, for prefixes and the whole of GPT-2', () => {
  for (const vocabulary of [512, 4096, 8192, 50_257]) {
    const encode = encoderOf(huggingFaceTokenizer(vocabulary, 128));
    const tokenizer = createTokenizer(vocabulary);
    for (const text of TEXTS) assert.equal(encode(text), [...tokenizer.encode(text)], `${vocabulary}: ${text}`);
  }
});

test('the files agree with one another, and with what is known of GPT-2', () => {
  const files = huggingFaceTokenizer(50_257, 1024);
  const vocab = JSON.parse(files['vocab.json']!) as Record<string, number>;
  const merges = files['merges.txt']!.split('\n');
  // First and last lines of GPT-2's published files.
  assert.equal(merges.slice(0, 5), ['#version: 0.2', 'Ġ t', 'Ġ a', 'h e', 'i n']);
  assert.is(merges.at(-2), 'Ġg azed');
  assert.is(merges.length, 50_002);
  assert.equal([vocab['!'], vocab.Ġthe, vocab['<|endoftext|>']], [0, 262, 50_256]);
  assert.is(new Set(Object.values(vocab)).size, 50_257);
  const tokenizer = JSON.parse(files['tokenizer.json']!);
  assert.equal(tokenizer.model.vocab, vocab);
  assert.equal(tokenizer.model.merges, merges.slice(1, -1));
  assert.is(tokenizer.added_tokens[0].id, 50_256);
  assert.is(JSON.parse(files['tokenizer_config.json']!).model_max_length, 1024);
});

test('vocabularies that the tokenizer does not have are refused', () => {
  for (const vocabulary of [29, 511, 50_258, 600.5]) {
    assert.throws(
      () => huggingFaceTokenizer(vocabulary, 8),
      (error: unknown) => error instanceof InvalidVocabularyError,
    );
  }
});

test.run();
