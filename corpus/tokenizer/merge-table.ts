/**
 * The merges of a vocabulary, and the byte-pair merging of one piece of text.
 *
 * `gpt-tokenizer` supplies the ranks; its own merging is not used, because it takes time quadratic in the length of a
 * piece (32,000 letters without a space: 190 ms) and overflows the call stack on pieces of some 100,000 tokens, and a
 * corpus of other people's text holds such pieces.
 */
import { Buffer } from 'node:buffer';
import ranks from 'gpt-tokenizer/bpeRanks/r50k_base';

/** Mergeable tokens of r50k_base: 256 bytes and 50,000 merges. Token ids are ranks: a lower id merges earlier. */
export const MERGEABLE_TOKENS = 50_256;

/** Left id and right id of a pair in one exact number; both are below 2^16. */
const PAIR_RADIX = 65_536;

/** Rank and position of a merge candidate in one exact number; positions are below 2^32. */
const CANDIDATE_RADIX = 2 ** 32;

/** What one vocabulary knows about its tokens. */
export interface MergeTable {
  /** Bytes of every token, by id. */
  readonly bytes: readonly Uint8Array[];
  /** Token id of every single byte. */
  readonly byteTokens: Uint16Array;
  /** Id of the token that a pair of adjacent tokens merges to, or -1. */
  merged(left: number, right: number): number;
}

/**
 * Table of the first `tokens` ranks (256 to {@link MERGEABLE_TOKENS}). Every merged token is made of two tokens of lower
 * rank, so any prefix of the list is a complete BPE of its own.
 */
export function createMergeTable(tokens: number): MergeTable {
  const bytes: Uint8Array[] = [];
  const ids = new Map<string, number>();
  const names: string[] = [];
  for (let id = 0; id < tokens; id++) {
    const entry = ranks[id];
    const raw = typeof entry === 'string' ? Buffer.from(entry, 'utf8') : Buffer.from(entry);
    // latin1 maps byte for byte to a string, so that byte sequences can key a map.
    const name = raw.toString('latin1');
    bytes.push(new Uint8Array(raw));
    names.push(name);
    ids.set(name, id);
  }
  const byteTokens = new Uint16Array(256);
  for (let byte = 0; byte < 256; byte++) byteTokens[byte] = ids.get(String.fromCharCode(byte)) as number;

  // Every way to split a token into two tokens: merging may reach it by any of them, whichever pair comes to stand there.
  const pairs = new Map<number, number>();
  for (let id = 0; id < tokens; id++) {
    const name = names[id];
    for (let split = 1; split < name.length; split++) {
      const left = ids.get(name.slice(0, split));
      if (left === undefined) continue;
      const right = ids.get(name.slice(split));
      if (right !== undefined) pairs.set(left * PAIR_RADIX + right, id);
    }
  }
  return { bytes, byteTokens, merged: (left, right) => pairs.get(left * PAIR_RADIX + right) ?? -1 };
}

/**
 * Merges the bytes of one piece: again and again the adjacent pair of lowest rank, the leftmost of equals. Returns the
 * ids. Time n log n and memory about 60 bytes per byte of the piece: callers bound its length.
 */
export function mergePiece(table: MergeTable, piece: Uint8Array): Uint16Array {
  const length = piece.length;
  const tokens = new Uint16Array(length);
  for (let i = 0; i < length; i++) tokens[i] = table.byteTokens[piece[i]];
  if (length < 2) return tokens;

  // A linked list over positions; a merged token stays at the position of its left half, the right half is dropped.
  const next = new Int32Array(length);
  const previous = new Int32Array(length);
  const dropped = new Uint8Array(length);
  for (let i = 0; i < length; i++) {
    next[i] = i + 1;
    previous[i] = i - 1;
  }
  // At most one candidate per initial pair and two per merge are ever pushed.
  const heap = new CandidateHeap(3 * length);
  const offer = (position: number) => {
    const right = next[position];
    if (right >= length) return;
    const id = table.merged(tokens[position], tokens[right]);
    if (id >= 0) heap.push(id * CANDIDATE_RADIX + position);
  };
  for (let i = 0; i < length - 1; i++) offer(i);
  while (heap.size > 0) {
    const candidate = heap.pop();
    const id = Math.floor(candidate / CANDIDATE_RADIX);
    const position = candidate % CANDIDATE_RADIX;
    const right = next[position];
    // A candidate is stale when one of its halves has been merged into something else meanwhile.
    if (dropped[position] === 1 || right >= length || table.merged(tokens[position], tokens[right]) !== id) continue;
    tokens[position] = id;
    dropped[right] = 1;
    next[position] = next[right];
    if (next[position] < length) previous[next[position]] = position;
    if (previous[position] >= 0) offer(previous[position]);
    offer(position);
  }
  let count = 0;
  for (let i = 0; i < length; i = next[i]) tokens[count++] = tokens[i];
  return tokens.slice(0, count);
}

/** Binary heap of numbers, smallest first, of fixed capacity. */
class CandidateHeap {
  readonly #items: Float64Array;
  size = 0;

  constructor(capacity: number) {
    this.#items = new Float64Array(capacity);
  }

  push(item: number): void {
    const items = this.#items;
    let at = this.size++;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (items[parent] <= item) break;
      items[at] = items[parent];
      at = parent;
    }
    items[at] = item;
  }

  pop(): number {
    const items = this.#items;
    const top = items[0];
    const last = items[--this.size];
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= this.size) break;
      if (child + 1 < this.size && items[child + 1] < items[child]) child++;
      if (items[child] >= last) break;
      items[at] = items[child];
      at = child;
    }
    items[at] = last;
    return top;
  }
}
