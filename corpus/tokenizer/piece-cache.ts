/**
 * Tokens of the pieces met lately. Text repeats its words, so nearly every piece is answered from here.
 */
import { Buffer } from 'node:buffer';

/** Pieces per generation; two generations of short strings and small arrays stay below some 20 MB. */
const GENERATION_PIECES = 32_768;

/** Longer pieces hardly ever come again. In UTF-16 code units. */
const MAX_CACHED_PIECE_LENGTH = 48;

/** Bounded map in two generations: when the young one is full it becomes the old one, and the old one is dropped. */
export class PieceCache {
  #young = new Map<string, Uint16Array>();
  #old = new Map<string, Uint16Array>();

  /** Tokens of a piece, if remembered. */
  get(piece: string): Uint16Array | undefined {
    const young = this.#young.get(piece);
    if (young !== undefined) return young;
    const old = this.#old.get(piece);
    if (old !== undefined) this.#insert(piece, old);
    return old;
  }

  /** Remembers a (well-formed) piece. */
  set(piece: string, tokens: Uint16Array): void {
    if (piece.length <= MAX_CACHED_PIECE_LENGTH) this.#insert(piece, tokens);
  }

  #insert(piece: string, tokens: Uint16Array): void {
    if (this.#young.size >= GENERATION_PIECES) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    // The key is made anew: a piece is usually a slice that would keep the whole document it was cut from in memory.
    this.#young.set(Buffer.from(piece, 'utf8').toString('utf8'), tokens);
  }
}
