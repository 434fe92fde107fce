/**
 * What every aggregation rule is (DESIGN 3.7): scalars from whole submissions first, then tensor after tensor.
 *
 * Bit-identical on every machine and for every order of arrival: submissions are put into ascending order of account,
 * arithmetic is IEEE add, subtract, multiply, divide and square root in fp64 in a documented order, nothing is fused, and
 * each result is rounded to fp32 once. Memory is that of one tensor's contributions, whatever the number of tensors.
 */
import type { SparseTensor, TensorLayout } from '../gradient/layout.ts';
import { InvalidSubmissionsError } from './errors.ts';

/** Elements of an update, tensors in ascending order. Iterated more than once, so a generator does not do. */
export interface UpdateElements {
  readonly tensors: Iterable<SparseTensor>;
}

/** A submission that takes part in a round. */
export interface Submission {
  /** Account of the miner, 64 lower-case hex characters. */
  readonly account: string;
  /** Score as a non-negative integer in the ledger's unit. Rules that do not weigh ignore it. */
  readonly weight: bigint;
  readonly update: UpdateElements;
}

/** Combines what the submissions say of one tensor of `length` elements; `parts[i]` is undefined where i says nothing. */
export type TensorRule = (
  length: number,
  parts: readonly (SparseTensor | undefined)[],
) => { readonly indices: Uint32Array; readonly values: Float32Array };

/** An aggregation rule. */
export interface AggregationRule {
  readonly name: string;
  /** Looks at whole submissions, given in ascending order of account, and returns the rule for their tensors. */
  prepare(submissions: readonly Submission[]): TensorRule;
}

/** Submissions in ascending order of account. Throws {@link InvalidSubmissionsError}. */
export function inAccountOrder(submissions: readonly Submission[]): Submission[] {
  const ordered = [...submissions].sort((a, b) => (a.account < b.account ? -1 : a.account > b.account ? 1 : 0));
  ordered.forEach(({ account, weight }, i) => {
    if (i > 0 && ordered[i - 1].account === account) {
      throw new InvalidSubmissionsError(`two submissions of account ${account}`);
    }
    if (weight < 0n) throw new InvalidSubmissionsError(`account ${account} has the negative weight ${weight}`);
  });
  return ordered;
}

/** An update's tensors one by one, in step with a layout. */
class TensorCursor {
  readonly #iterator: Iterator<SparseTensor>;
  #current: SparseTensor | undefined;
  #last = -1;

  constructor(update: UpdateElements) {
    this.#iterator = update.tensors[Symbol.iterator]();
    this.#advance();
  }

  #advance(): void {
    const { done, value } = this.#iterator.next();
    this.#current = done ? undefined : value;
    if (this.#current === undefined) return;
    if (this.#current.tensor <= this.#last) throw new InvalidSubmissionsError('tensors of an update are not ascending');
    this.#last = this.#current.tensor;
  }

  /** What the update says of a tensor. Ask in ascending order. */
  take(tensor: number): SparseTensor | undefined {
    if (this.#current?.tensor !== tensor) return undefined;
    const taken = this.#current;
    this.#advance();
    return taken;
  }

  /** True when everything was taken: nothing lies outside the layout. */
  get finished(): boolean {
    return this.#current === undefined;
  }
}

/**
 * Aggregates a round, tensor by tensor in layout order. Only elements whose aggregate is not zero are given. Threads can
 * share the work: each gives a `range` of tensors (`first` up to `end`), and what they give makes up the whole.
 * Throws {@link InvalidSubmissionsError}.
 */
export function* aggregateTensors(
  rule: AggregationRule,
  layout: TensorLayout,
  submissions: readonly Submission[],
  range: { readonly first: number; readonly end: number } = { first: 0, end: layout.length },
): Generator<SparseTensor> {
  const ordered = inAccountOrder(submissions);
  const combine = rule.prepare(ordered);
  const cursors = ordered.map(({ update }) => new TensorCursor(update));
  for (let tensor = 0; tensor < layout.length; tensor++) {
    const parts = cursors.map((cursor) => cursor.take(tensor));
    if (tensor < range.first || tensor >= range.end || parts.every((part) => part === undefined)) continue;
    const combined = combine(layout[tensor].length, parts);
    if (combined.indices.length > 0) yield { tensor, ...combined };
  }
  if (cursors.some((cursor) => !cursor.finished)) {
    throw new InvalidSubmissionsError(`an update has tensors beyond the ${layout.length} of the layout`);
  }
}

/** An aggregated update: what all submissions of a round say together, before the outer step. */
export interface AggregatedUpdate {
  readonly tensors: readonly SparseTensor[];
}

/** Aggregates a round into memory. Throws {@link InvalidSubmissionsError}. */
export function aggregate(
  rule: AggregationRule,
  layout: TensorLayout,
  submissions: readonly Submission[],
): AggregatedUpdate {
  return { tensors: [...aggregateTensors(rule, layout, submissions)] };
}
