/** Seeded inputs for the corpus tests. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Integers in [0, bound), the same for the same seed (mulberry32). */
export function seededIntegers(seed: number): (bound: number) => number {
  let state = seed >>> 0;
  return (bound) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * bound);
  };
}

/** What random text is made of: every length of UTF-8, white space of all kinds, signs, joiners, special tokens. */
const FRAGMENTS = [
  ...'abcdefgXYZ0123456789.,;:!?\'"-_/\\()[]{}<>|@#$%^&*~`',
  ' ',
  '  ',
  '\t',
  '\n',
  '\r\n',
  '\n\n',
  '\u00a0',
  '\u2003',
  '\u0000',
  '\u007f',
  'é',
  'ß',
  'ж',
  '中',
  '日本',
  'क्षि',
  '한',
  '\u200d',
  '\ufeff',
  '\ufffd',
  '😀',
  '👩‍👩‍👧',
  '🏴󠁧󠁢',
  '𝔘',
  "'s",
  "'ll",
  ' the',
  ' and',
  'tion',
  '<|endoftext|>',
  '|>',
];

/** Well-formed random text. */
export function randomText(integer: (bound: number) => number, fragments: number): string {
  let text = '';
  for (let i = 0; i < fragments; i++) {
    text +=
      integer(8) === 0
        ? // Any code point at all, surrogates left out.
          String.fromCodePoint(((point) => (point >= 0xd800 && point < 0xe000 ? 0x41 : point))(integer(0x110000)))
        : FRAGMENTS[integer(FRAGMENTS.length)];
  }
  return text;
}

/** English-looking paragraphs of different words, `characters` long at least. */
export function randomParagraphs(seed: number, characters: number): string {
  const integer = seededIntegers(seed);
  const syllables = ['ba', 'ton', 'ri', 'ess', 'mo', 'lin', 'qua', 'the', 'ing', 'or', 'ad', 'vel', 'sti', 'cro'];
  const word = () => Array.from({ length: 1 + integer(3) }, () => syllables[integer(syllables.length)]).join('');
  const sentence = () => `${Array.from({ length: 4 + integer(10) }, word).join(' ')}.`;
  let text = '';
  while (text.length < characters) text += `${Array.from({ length: 1 + integer(6) }, sentence).join(' ')}\n\n`;
  return text;
}

/** A new empty folder under the system's folder for temporary files. */
export function temporaryFolder(): string {
  return mkdtempSync(join(tmpdir(), 'alice-corpus-'));
}

/** Runs `action` and returns what it throws. Fails when it does not throw. */
export async function thrownBy(action: () => unknown): Promise<Error & { code?: string }> {
  try {
    await action();
  } catch (error) {
    return error as Error & { code?: string };
  }
  throw new Error('nothing was thrown');
}

/** All of an async iterable. */
export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

/** Bytes in chunks of the given sizes, repeated. */
export async function* inChunks(bytes: Uint8Array, sizes: () => number): AsyncGenerator<Uint8Array> {
  for (let start = 0; start < bytes.length; ) {
    const size = Math.max(1, sizes());
    yield bytes.subarray(start, start + size);
    start += size;
  }
}
