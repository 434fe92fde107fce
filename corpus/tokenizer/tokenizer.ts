/**
 * GPT-2 byte-pair encoding (r50k_base), in full or as a prefix of its merge list.
 *
 * A vocabulary of N tokens is the first N - 1 ranks and, as the last id N - 1, the end-of-text token. For N = 50,257 that
 * is exactly the vocabulary of GPT-2, whose <|endoftext|> is 50,256. Text never encodes to the end-of-text token: the
 * characters "<|endoftext|>" in a document are ordinary characters.
 */
import { Buffer } from 'node:buffer';
import { R50K_TOKEN_SPLIT_REGEX } from 'gpt-tokenizer/encodingParams/constants';
import { InvalidVocabularyError, UnknownTokenError } from '../errors.ts';
import { createMergeTable, MERGEABLE_TOKENS, mergePiece } from './merge-table.ts';
import { PieceCache } from './piece-cache.ts';

/** Smallest vocabulary: the 256 bytes, 255 merges, end-of-text. */
export const MIN_VOCABULARY = 512;

/** Vocabulary of GPT-2. */
export const FULL_VOCABULARY = MERGEABLE_TOKENS + 1;

/** Text that stands for the end-of-text token when tokens are decoded. */
export const END_OF_TEXT = '<|endoftext|>';

/**
 * Pieces (runs of letters, of digits, of signs, of white space) longer than this are merged in parts, so that memory
 * stays bounded; only such runs encode otherwise than in GPT-2's own implementation. In UTF-16 code units.
 */
export const MAX_PIECE_LENGTH = 65_536;

/** Encodes text and decodes tokens of one vocabulary. Not shared between threads. */
export interface Tokenizer {
  /** Number of token ids, end-of-text included. */
  readonly vocabulary: number;
  /** Id of the end-of-text token: `vocabulary - 1`. */
  readonly endOfText: number;
  /**
   * Token ids of a text; never the end-of-text token. Lone surrogates become U+FFFD, as in UTF-8. Synchronous, some
   * 100 ms per megabyte: callers bound the length of what they did not write themselves.
   */
  encode(text: string): Uint16Array;
  /**
   * Text of token ids. Bytes that are not UTF-8 (a character cut in two) become U+FFFD; end-of-text becomes
   * {@link END_OF_TEXT}. Throws {@link UnknownTokenError}.
   */
  decode(tokens: ArrayLike<number>): string;
  /** Bytes of one token, to decode a stream; empty for end-of-text. Not to be changed. Throws {@link UnknownTokenError}. */
  tokenBytes(token: number): Uint8Array;
}

/**
 * Tokenizer of a vocabulary of {@link MIN_VOCABULARY} to {@link FULL_VOCABULARY} tokens. Takes milliseconds for small
 * vocabularies and about 0.1 s for the full one. Throws {@link InvalidVocabularyError}.
 */
export function createTokenizer(vocabulary: number): Tokenizer {
  if (!Number.isInteger(vocabulary) || vocabulary < MIN_VOCABULARY || vocabulary > FULL_VOCABULARY) {
    throw new InvalidVocabularyError(
      `vocabulary must be an integer from ${MIN_VOCABULARY} to ${FULL_VOCABULARY}, got ${vocabulary}`,
    );
  }
  const endOfText = vocabulary - 1;
  const table = createMergeTable(endOfText);
  const cache = new PieceCache();
  // An own instance: exec() keeps its position in the object.
  const splitter = new RegExp(R50K_TOKEN_SPLIT_REGEX.source, R50K_TOKEN_SPLIT_REGEX.flags);

  const encodePiece = (piece: string): Uint16Array => {
    const known = cache.get(piece);
    if (known !== undefined) return known;
    const tokens = mergePiece(table, Buffer.from(piece, 'utf8'));
    cache.set(piece, tokens);
    return tokens;
  };

  const tokenBytes = (token: number): Uint8Array => {
    if (token === endOfText) return NO_BYTES;
    const bytes = table.bytes[token];
    if (bytes === undefined) throw new UnknownTokenError(`no token ${token} in a vocabulary of ${vocabulary}`);
    return bytes;
  };

  return {
    vocabulary,
    endOfText,
    tokenBytes,
    encode(text) {
      const whole = text.toWellFormed();
      const output = new TokenBuffer(whole.length);
      splitter.lastIndex = 0;
      for (let match = splitter.exec(whole); match !== null; match = splitter.exec(whole)) {
        const piece = match[0];
        if (piece.length <= MAX_PIECE_LENGTH) output.append(encodePiece(piece));
        else for (const part of partsOf(piece)) output.append(encodePiece(part));
      }
      return output.tokens();
    },
    decode(tokens) {
      const parts: Uint8Array[] = [];
      for (let i = 0; i < tokens.length; i++) {
        parts.push(tokens[i] === endOfText ? END_OF_TEXT_BYTES : tokenBytes(tokens[i]));
      }
      return Buffer.concat(parts).toString('utf8');
    },
  };
}

const NO_BYTES = new Uint8Array(0);
const END_OF_TEXT_BYTES = new TextEncoder().encode(END_OF_TEXT);

/** Cuts a long piece so that no surrogate pair is torn. */
function* partsOf(piece: string): Generator<string> {
  for (let start = 0; start < piece.length; ) {
    let end = Math.min(start + MAX_PIECE_LENGTH, piece.length);
    if (end < piece.length && (piece.charCodeAt(end) & 0xfc00) === 0xdc00) end--;
    yield piece.slice(start, end);
    start = end;
  }
}

/** Grows as tokens come. */
class TokenBuffer {
  #tokens: Uint16Array;
  #length = 0;

  /** `textLength` in UTF-16 code units, from which the first size is guessed: about three to a token. */
  constructor(textLength: number) {
    this.#tokens = new Uint16Array(Math.ceil(textLength / 2) + 16);
  }

  append(tokens: Uint16Array): void {
    const end = this.#length + tokens.length;
    if (end > this.#tokens.length) {
      const larger = new Uint16Array(Math.max(end, this.#tokens.length * 2));
      larger.set(this.#tokens.subarray(0, this.#length));
      this.#tokens = larger;
    }
    // A plain loop: TypedArray.set costs more than it saves on a handful of elements.
    for (let i = 0, at = this.#length; i < tokens.length; i++, at++) this.#tokens[at] = tokens[i];
    this.#length = end;
  }

  tokens(): Uint16Array {
    return this.#tokens.slice(0, this.#length);
  }
}
