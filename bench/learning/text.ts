/** Text as tokens, cut into what is trained on and what is held out. */
import { createHash } from 'node:crypto';
import { readDocuments } from '../../corpus/read/documents.ts';
import { findSources } from '../../corpus/read/sources.ts';
import { readWordnet, wordnetSources } from '../../corpus/read/wordnet.ts';
import { createTokenizer } from '../../corpus/tokenizer/tokenizer.ts';

/** Tokens that are read at most: more than the largest run here trains on. */
const MAX_TOKENS = 1 << 22;
/** Wished length of documents cut from running text, in UTF-16 units. */
const DOCUMENT_LENGTH = 16_384;
/** Sequences that a held-out loss is the mean of. */
const HELD_OUT_SEQUENCES = 32;

/** A text in the tokens of a vocabulary. */
export interface LearningText {
  /** Number of tokens in all. */
  readonly length: number;
  /** First 16 hex characters of the SHA-256 of the tokens: results of another text never mix with these. */
  readonly digest: string;
  /** The first nine tenths. */
  readonly training: Int32Array;
  /** Sequences of `context + 1` ids from everywhere in the last tenth. */
  readonly heldOut: Int32Array;
}

async function readTokens(paths: readonly string[], vocabulary: number, signal: AbortSignal): Promise<Int32Array> {
  const tokenizer = createTokenizer(vocabulary);
  const tokens: number[] = [];
  const files = paths.length === 0 ? await wordnetSources() : await findSources(paths);
  for (const file of files) {
    const documents =
      paths.length === 0
        ? readWordnet(file, { signal })
        : readDocuments(file, { documentLength: DOCUMENT_LENGTH, signal });
    for await (const document of documents) {
      for (const token of tokenizer.encode(document)) tokens.push(token);
      tokens.push(tokenizer.endOfText);
      if (tokens.length > MAX_TOKENS) return Int32Array.from(tokens);
    }
  }
  return Int32Array.from(tokens);
}

/** Reads the given files, or the default corpus for none. Throws what corpus/ throws for files it cannot read. */
export async function readLearningText(
  paths: readonly string[],
  { vocabulary, context }: { readonly vocabulary: number; readonly context: number },
  signal: AbortSignal,
): Promise<LearningText> {
  const tokens = await readTokens(paths, vocabulary, signal);
  const cut = Math.floor(tokens.length * 0.9);
  const window = context + 1;
  const starts = Array.from({ length: HELD_OUT_SEQUENCES }, (_, i) =>
    Math.floor(cut + (i * (tokens.length - cut - window)) / HELD_OUT_SEQUENCES),
  );
  return {
    length: tokens.length,
    digest: createHash('sha256').update(tokens).digest('hex').slice(0, 16),
    training: tokens.subarray(0, cut),
    heldOut: Int32Array.from(starts.flatMap((start) => [...tokens.subarray(start, start + window)])),
  };
}

/** The next batch: sequences of `context + 1` ids from anywhere in the training part. */
export function batchOf(
  { training }: LearningText,
  { batch, context }: { readonly batch: number; readonly context: number },
  random: () => number,
): Int32Array {
  const length = context + 1;
  const tokens = new Int32Array(batch * length);
  for (let sequence = 0; sequence < batch; sequence++) {
    const start = Math.floor(random() * (training.length - length));
    tokens.set(training.subarray(start, start + length), sequence * length);
  }
  return tokens;
}
