/**
 * Measuring side by side: ours and the baseline take turns in one process run, so that a busy or throttled machine
 * slows both. Medians, because a disturbance only ever makes a run slower.
 */

/** What a row of measured values comes to. */
export interface Summary {
  median: number;
  min: number;
  max: number;
  /** (max - min) / median: how far to trust the median. 0 for a single value. */
  spread: number;
  count: number;
}

/** Values of several variants, measured in turns. */
export interface Comparison {
  /** By variant: what was returned each time, in order. */
  samples: Readonly<Record<string, readonly number[]>>;
  summaries: Readonly<Record<string, Summary>>;
}

/** Thrown when nothing was measured. */
export class NothingMeasuredError extends Error {
  static readonly code = 'ERR_NOTHING_MEASURED';
  readonly code = NothingMeasuredError.code;
  override readonly name = 'NothingMeasuredError';
}

/** Median, extremes and spread of values. Throws {@link NothingMeasuredError} for none, and for values that are not finite. */
export function summarize(values: readonly number[]): Summary {
  const sorted = values.toSorted((a, b) => a - b);
  if (sorted.length === 0 || sorted.some((value) => !Number.isFinite(value))) {
    throw new NothingMeasuredError(`no finite values in [${values.join(', ')}]`);
  }
  const at = (index: number): number => sorted[index] ?? Number.NaN;
  const middle = (sorted.length - 1) / 2;
  const median = (at(Math.floor(middle)) + at(Math.ceil(middle))) / 2;
  const [min, max] = [at(0), at(sorted.length - 1)];
  return { median, min, max, spread: median === 0 ? 0 : (max - min) / Math.abs(median), count: sorted.length };
}

/** Seconds that `run` takes. */
export async function secondsOf(run: () => unknown): Promise<number> {
  const start = performance.now();
  await run();
  return (performance.now() - start) / 1000;
}

/**
 * Runs every variant `warmups` times unmeasured, then `turns` times in turns, the order rotating by one each turn so
 * that none always follows the same other. Each variant returns its value, in any unit: seconds, tokens/s, bytes.
 */
export async function compare(
  variants: Readonly<Record<string, () => number | Promise<number>>>,
  { turns = 5, warmups = 1, signal }: { turns?: number; warmups?: number; signal?: AbortSignal } = {},
): Promise<Comparison> {
  const entries = Object.entries(variants);
  const samples: Record<string, number[]> = Object.fromEntries(entries.map(([name]) => [name, []]));
  for (let turn = -warmups; turn < turns; turn++) {
    for (let step = 0; step < entries.length; step++) {
      const entry = entries[(Math.max(0, turn) + step) % entries.length];
      if (entry === undefined) continue;
      signal?.throwIfAborted();
      const value = await entry[1]();
      if (turn >= 0) samples[entry[0]]?.push(value);
    }
  }
  const summaries = Object.fromEntries(Object.entries(samples).map(([name, values]) => [name, summarize(values)]));
  return { samples, summaries };
}

/**
 * How many times `ours` is `baseline`: the median of the ratios of each turn, which cancels what slowed a whole turn.
 * Throws {@link NothingMeasuredError} if either is missing.
 */
export function ratioOf({ samples }: Comparison, ours: string, baseline: string): Summary {
  const [above = [], below = []] = [samples[ours], samples[baseline]];
  return summarize(above.map((value, turn) => value / (below[turn] ?? Number.NaN)));
}
