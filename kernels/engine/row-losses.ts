/** Cross-entropy by row, as it adds up over tiles of the vocabulary. */

type Floats = Float32Array<ArrayBuffer>;

/** What is known of the rows of a pass after some tiles. Made at the first one. */
interface Sums {
  /** Largest logit so far. */
  readonly max: Float64Array<ArrayBuffer>;
  /** Sum of exponentials of the logits less `max`. */
  readonly sum: Float64Array<ArrayBuffer>;
  /** Logit of the target, once its tile came. */
  readonly target: Float64Array<ArrayBuffer>;
}

/** Losses of the rows of a pass, in nats. Where the head is one tile, it writes `values` and nothing else is needed. */
export class RowLosses {
  readonly values: Floats;
  #sums: Sums | undefined;
  #logSumExp: Floats = new Float32Array(0);

  constructor(values: Floats) {
    this.values = values;
  }

  /** Logarithm of the sum of exponentials of each row: known after {@link finish}. */
  get logSumExp(): Floats {
    return this.#logSumExp;
  }

  /** A copy that can go on by itself. */
  copy(): RowLosses {
    const copy = new RowLosses(this.values.slice());
    if (this.#sums === undefined) return copy;
    const { max, sum, target } = this.#sums;
    copy.#sums = { max: max.slice(), sum: sum.slice(), target: target.slice() };
    return copy;
  }

  /**
   * Adds what a tile says of a row.
   *
   * @param sum - of the exponentials of its logits less `max`, the largest of them
   * @param target - logit of the target, where the tile has it
   */
  add(row: number, max: number, sum: number, target: number | undefined): void {
    const rows = this.values.length;
    this.#sums ??= {
      max: new Float64Array(rows).fill(Number.NEGATIVE_INFINITY),
      sum: new Float64Array(rows),
      target: new Float64Array(rows),
    };
    const so = this.#sums;
    const larger = Math.max(so.max[row] as number, max);
    const before = (so.sum[row] as number) * Math.exp((so.max[row] as number) - larger);
    so.sum[row] = before + sum * Math.exp(max - larger);
    so.max[row] = larger;
    if (target !== undefined) so.target[row] = target;
  }

  /** Fills `values` and {@link logSumExp}: all tiles came. */
  finish(): void {
    const so = this.#sums;
    if (so === undefined) return;
    this.#logSumExp = Float32Array.from(so.max, (largest, row) => {
      const logSumExp = largest + Math.log(so.sum[row] as number);
      this.values[row] = logSumExp - (so.target[row] as number);
      return logSumExp;
    });
  }
}
