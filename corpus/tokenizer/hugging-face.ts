/**
 * A vocabulary as the tokenizer files of a Hugging Face folder, so that a model's text opens elsewhere.
 *
 * GPT-2's files name bytes by printable characters and merges by the pair that is merged. The pairs are not part of the
 * ranks; they come back by merging each token's bytes with the tokens before it, until two parts are left.
 */
import { InvalidVocabularyError } from '../errors.ts';
import { createMergeTable, mergePiece } from './merge-table.ts';
import { END_OF_TEXT, FULL_VOCABULARY, MIN_VOCABULARY } from './tokenizer.ts';

/**
 * GPT-2's character for each byte: itself where it prints (and is no space), else the next free one from U+0100 on.
 */
function byteCharacters(): readonly string[] {
  const prints = (byte: number) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(prints(byte) ? byte : next++));
}

/** Vocabulary and merges as GPT-2's `vocab.json` and `merges.txt` have them. */
export interface NamedVocabulary {
  /** Token names by id, end-of-text last. */
  readonly tokens: readonly string[];
  /** Pairs of names, in the order in which they merge: the pair of token `256 + i` at place i. */
  readonly merges: readonly (readonly [left: string, right: string])[];
}

/**
 * Names and merges of a vocabulary of {@link MIN_VOCABULARY} to {@link FULL_VOCABULARY} tokens; some 0.3 s for the full
 * one. Throws {@link InvalidVocabularyError}.
 */
export function namedVocabulary(vocabulary: number): NamedVocabulary {
  if (!Number.isInteger(vocabulary) || vocabulary < MIN_VOCABULARY || vocabulary > FULL_VOCABULARY) {
    throw new InvalidVocabularyError(
      `tokenizer files are made for ${MIN_VOCABULARY} to ${FULL_VOCABULARY} tokens, not ${vocabulary}`,
    );
  }
  const endOfText = vocabulary - 1;
  const table = createMergeTable(endOfText);
  const characters = byteCharacters();
  const tokens = table.bytes.map((bytes) => Array.from(bytes, (byte) => characters[byte]).join(''));
  const merges: [string, string][] = [];
  for (let id = 256; id < endOfText; id++) {
    // Only earlier tokens may merge, or the token would come out whole.
    const earlier = {
      ...table,
      merged: (left: number, right: number) => {
        const merged = table.merged(left, right);
        return merged < id ? merged : -1;
      },
    };
    const [left, right] = mergePiece(earlier, table.bytes[id]);
    merges.push([tokens[left], tokens[right]]);
  }
  return { tokens: [...tokens, END_OF_TEXT], merges };
}

/** Pretty JSON with a line end. */
function json(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

/**
 * The tokenizer files of a vocabulary by name: `tokenizer.json`, `vocab.json`, `merges.txt`, `tokenizer_config.json` and
 * `special_tokens_map.json`. `context` is the longest sequence in tokens. Unlike ours, tokenizers that read them turn the
 * characters of the end-of-text token in a text into that token, as GPT-2's does. Throws {@link InvalidVocabularyError}.
 */
export function huggingFaceTokenizer(vocabulary: number, context: number): Record<string, string> {
  const { tokens, merges } = namedVocabulary(vocabulary);
  const byName = Object.fromEntries(tokens.map((token, id) => [token, id]));
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  const endOfText = { content: END_OF_TEXT, lstrip: false, normalized: false, rstrip: false, single_word: false };
  const special = { bos_token: END_OF_TEXT, eos_token: END_OF_TEXT, unk_token: END_OF_TEXT };
  return {
    'tokenizer.json': json({
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: [{ id: vocabulary - 1, ...endOfText, special: true }],
      normalizer: null,
      pre_tokenizer: byteLevel,
      post_processor: { ...byteLevel, trim_offsets: false },
      decoder: byteLevel,
      model: {
        type: 'BPE',
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: '',
        end_of_word_suffix: '',
        fuse_unk: false,
        byte_fallback: false,
        vocab: byName,
        merges: merges.map((pair) => pair.join(' ')),
      },
    }),
    'vocab.json': `${JSON.stringify(byName)}\n`,
    'merges.txt': `#version: 0.2\n${merges.map((pair) => `${pair.join(' ')}\n`).join('')}`,
    'tokenizer_config.json': json({
      tokenizer_class: 'GPT2Tokenizer',
      model_max_length: context,
      add_prefix_space: false,
      add_bos_token: false,
      clean_up_tokenization_spaces: false,
      ...special,
      added_tokens_decoder: { [vocabulary - 1]: { ...endOfText, special: true } },
    }),
    'special_tokens_map.json': json(special),
  };
}
