/**
 * Centered clipping (Karimireddy, He, Jaggi 2021, "Learning from History for Byzantine Robust Optimization"):
 * `v <- v + sum_i share_i * clip(x_i - v, radius)`, from v = 0.
 *
 * Every iterate is a linear combination of the submissions, so the iterations run on its coefficients, with distances from
 * the matrix of inner products: one pass over the submissions per pair instead of dense vectors. As for every rule, a
 * coefficient is capped at its submission's share of the weight, so the result is shorter than the paper's where some are
 * clipped: there the others would take over what the clipped ones lose.
 */
import { linearCombination } from './linear.ts';
import { innerProduct, medianNorm } from './norm.ts';
import type { AggregationRule } from './rule.ts';
import { weightShares } from './weighted-mean.ts';

/** Iterations where none are given; the paper finds few to be enough. */
const DEFAULT_ITERATIONS = 3;

/**
 * Coefficients of the iterate on the submissions, before the cap. `products` is the matrix of inner products of the
 * submissions, `shares` their shares of the weight. Sums run in index order in fp64.
 */
export function centeredCoefficients(
  products: readonly Float64Array[],
  shares: readonly number[],
  radius: number,
  iterations: number,
): Float64Array {
  let center = new Float64Array(shares.length);
  for (let iteration = 0; iteration < iterations; iteration++) {
    // <x_i, v> for every i, and <v, v>.
    const withCenter = products.map((row) => row.reduce((sum, product, j) => sum + product * center[j], 0));
    const centerSquared = withCenter.reduce((sum, product, i) => sum + product * center[i], 0);
    const steps = shares.map((share, i) => {
      const distance = Math.sqrt(Math.max(0, products[i][i] - 2 * withCenter[i] + centerSquared));
      return share * (distance <= radius ? 1 : radius / distance);
    });
    const moved = steps.reduce((sum, step) => sum + step, 0);
    center = center.map((coefficient, i) => coefficient * (1 - moved) + steps[i]);
  }
  return center;
}

/** Centered clipping with the given radius, by default the median norm of the submissions. */
export function centeredClipping(
  options: { readonly radius?: number; readonly iterations?: number } = {},
): AggregationRule {
  return {
    name: 'centered-clipping',
    prepare(submissions) {
      const products = submissions.map(() => new Float64Array(submissions.length));
      submissions.forEach((mine, i) => {
        for (let j = i; j < submissions.length; j++) {
          products[i][j] = innerProduct(mine.update, submissions[j].update);
          products[j][i] = products[i][j];
        }
      });
      const radius = options.radius ?? medianNorm(products.map((row, i) => Math.sqrt(row[i])));
      const shares = weightShares(submissions);
      const center = centeredCoefficients(products, shares, radius, options.iterations ?? DEFAULT_ITERATIONS);
      return linearCombination(shares.map((share, i) => Math.max(0, Math.min(share, center[i]))));
    },
  };
}
