/** Text as bytes, cut into what is trained on and what is held out, and dealt to workers. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { parse } from 'node:path';
import { readWordnet, wordnetSources } from '../../corpus/read/wordnet.ts';
import { randomSource } from '../random.ts';

/** A corpus of the study. */
export interface StudyText {
  /** Name for people. */
  readonly name: string;
  /** First 16 hex characters of the SHA-256 of its bytes: results of another text never mix with these. */
  readonly digest: string;
  /** Bytes to train on, in order. */
  readonly training: Uint8Array;
  /** Bytes to measure on. */
  readonly heldOut: Uint8Array;
}

/** Thrown when a text is too short to deal to the workers. */
export class TextTooShortError extends Error {
  static readonly code = 'ERR_TEXT_TOO_SHORT';
  readonly code = TextTooShortError.code;
  override readonly name = 'TextTooShortError';
}

/** Held-out text comes in blocks of this many bytes from everywhere: parts of a corpus differ in kind. */
const BLOCK_BYTES = 8192;

/** Every so many blocks one is held out. */
const HELD_OUT_EVERY = 10;

/** Holds out every tenth block of a text. */
export function splitText(name: string, bytes: Uint8Array): StudyText {
  const training: Uint8Array[] = [];
  const heldOut: Uint8Array[] = [];
  for (let start = 0, block = 0; start < bytes.length; start += BLOCK_BYTES, block++)
    (block % HELD_OUT_EVERY === HELD_OUT_EVERY - 1 ? heldOut : training).push(
      bytes.subarray(start, start + BLOCK_BYTES),
    );
  const digest = createHash('sha256').update(bytes).digest('hex').slice(0, 16);
  return { name, digest, training: Buffer.concat(training), heldOut: Buffer.concat(heldOut) };
}

/** Text of a file; without one, the default corpus of the network. Throws errors of the file system. */
export async function readStudyText(path: string | undefined, signal?: AbortSignal): Promise<StudyText> {
  if (path !== undefined) return splitText(parse(path).name, await readFile(path, signal && { signal }));
  const documents: string[] = [];
  for (const source of await wordnetSources())
    for await (const document of readWordnet(source, signal && { signal })) documents.push(document);
  return splitText('wordnet', Buffer.from(documents.join('\n\n'), 'utf8'));
}

/** Windows of a text: `context` bytes that are read and one more that is only predicted; neighbours share that one. */
function windowCount(bytes: Uint8Array, context: number): number {
  return Math.floor((bytes.length - 1) / context);
}

/** Writes the window of that number to `into`. */
function writeWindow(bytes: Uint8Array, context: number, window: number, into: Int32Array, at: number): void {
  into.set(bytes.subarray(window * context, window * context + context + 1), at);
}

/** Held-out sequences, evenly from everywhere: at most `windows` of them, as engines take them. */
export function heldOutTokens(text: StudyText, context: number, windows: number): Int32Array {
  const available = windowCount(text.heldOut, context);
  const taken = Math.min(windows, available);
  const tokens = new Int32Array(taken * (context + 1));
  for (let i = 0; i < taken; i++)
    writeWindow(text.heldOut, context, Math.floor((i * available) / taken), tokens, i * (context + 1));
  return tokens;
}

/** Sequences in random order without repetition; when all were seen, in another order. */
export class WindowStream {
  readonly #bytes: Uint8Array;
  readonly #context: number;
  readonly #windows: Uint32Array;
  readonly #random: () => number;
  #at: number;
  #taken = 0;

  constructor(bytes: Uint8Array, context: number, windows: Uint32Array, seed: number) {
    this.#bytes = bytes;
    this.#context = context;
    this.#windows = windows;
    this.#random = randomSource(seed);
    this.#at = windows.length;
  }

  /** Tokens predicted in all windows taken so far. */
  get tokensTaken(): number {
    return this.#taken * this.#context;
  }

  /** The next `sequences` windows as engines take them. */
  take(sequences: number): Int32Array {
    const tokens = new Int32Array(sequences * (this.#context + 1));
    this.#taken += sequences;
    for (let i = 0; i < sequences; i++) {
      if (this.#at === this.#windows.length) this.#shuffle();
      writeWindow(this.#bytes, this.#context, this.#windows[this.#at++], tokens, i * (this.#context + 1));
    }
    return tokens;
  }

  #shuffle(): void {
    shuffle(this.#windows, this.#random);
    this.#at = 0;
  }
}

/** Fisher-Yates. */
function shuffle(values: Uint32Array, random: () => number): void {
  for (let i = values.length - 1; i > 0; i--) {
    const other = Math.floor(random() * (i + 1));
    const value = values[i];
    values[i] = values[other];
    values[other] = value;
  }
}

/** Deals the training windows to the workers, disjoint, and gives each its stream. Throws {@link TextTooShortError}. */
export function dealText(
  text: StudyText,
  options: { context: number; workers: number; parts: 'interleaved' | 'contiguous'; seed: number },
): WindowStream[] {
  const { context, workers, parts, seed } = options;
  const available = windowCount(text.training, context);
  const each = Math.floor(available / workers);
  if (each < 1) throw new TextTooShortError(`${text.name}: ${available} windows of ${context} for ${workers} workers`);
  const windows = Uint32Array.from({ length: available }, (_, i) => i);
  if (parts === 'interleaved') shuffle(windows, randomSource(seed * 1000 + 999));
  return Array.from({ length: workers }, (_, worker) => {
    const mine = windows.slice(worker * each, (worker + 1) * each);
    return new WindowStream(text.training, context, mine, seed * 1000 + worker);
  });
}
