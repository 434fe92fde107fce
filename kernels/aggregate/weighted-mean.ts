/**
 * The default rule: mean weighted by score, after each submission was clipped to the median norm.
 *
 * The divisor is the weight of *all* submissions of the round, not of those that touch a coordinate: so no submission
 * moves a coordinate by more than its share of the weight times its (clipped) value, and nobody owns a coordinate that
 * only they send (ANCHORS 3). The outer step makes up for the smaller result.
 */
import type { HotLoops } from '../wasm/hot-loops.ts';
import { linearCombination } from './linear.ts';
import { clipScale, medianNorm, normOf } from './norm.ts';
import type { AggregationRule, Submission } from './rule.ts';

/**
 * Share of each submission in the total weight, in fp64: `Number(weight) / Number(total)`, each conversion and the division
 * rounded to nearest. All zero when nobody has weight.
 */
export function weightShares(submissions: readonly Submission[]): number[] {
  const total = Number(submissions.reduce((sum, { weight }) => sum + weight, 0n));
  return submissions.map(({ weight }) => (total === 0 ? 0 : Number(weight) / total));
}

/**
 * Coefficient of submission i: `share_i * clipScale(norm_i, limit)`. `limit` is the median norm of all submissions given,
 * unless the caller fixes it (for instance to the median over more submissions than were accepted). `norms`, by account, are
 * those that the caller has already from `normOf`. `loops`: see {@link linearCombination}.
 */
export function weightedMean(
  options: {
    readonly normLimit?: number;
    readonly norms?: ReadonlyMap<string, number>;
    readonly loops?: HotLoops | null;
  } = {},
): AggregationRule {
  return {
    name: 'weighted-mean',
    prepare(submissions) {
      const norms = submissions.map(({ account, update }) => options.norms?.get(account) ?? normOf(update));
      const limit = options.normLimit ?? medianNorm(norms);
      const shares = weightShares(submissions);
      const coefficients = shares.map((share, i) => share * clipScale(norms[i], limit));
      return linearCombination(coefficients, options.loops);
    },
  };
}
