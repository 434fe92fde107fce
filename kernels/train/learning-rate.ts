/** Learning rate by step. */

/** A rise from zero, then half a wave of a cosine down. */
export interface WarmupCosine {
  /** Highest rate. */
  readonly peak: number;
  /** Steps of the linear rise; the first of them is at `peak / warmupSteps`. */
  readonly warmupSteps: number;
  /** Step (from 0) from which on the rate is `floor`. More than `warmupSteps`. */
  readonly totalSteps: number;
  /** Lowest rate after the rise. Default 0. */
  readonly floor?: number;
}

/** Thrown for a schedule that makes no sense. */
export class InvalidScheduleError extends Error {
  static readonly code = 'ERR_INVALID_SCHEDULE';
  readonly code = InvalidScheduleError.code;
  override readonly name = 'InvalidScheduleError';
}

/** Rate of step `step`, counted from 0. Throws {@link InvalidScheduleError}. */
export function warmupCosineRate({ peak, warmupSteps, totalSteps, floor = 0 }: WarmupCosine, step: number): number {
  const counts = [warmupSteps, totalSteps, step].every((count) => Number.isInteger(count) && count >= 0);
  if (!counts || warmupSteps >= totalSteps || !(floor >= 0 && peak >= floor && Number.isFinite(peak)))
    throw new InvalidScheduleError(
      `step ${step} of a rise over ${warmupSteps} of ${totalSteps} steps to ${peak}, then down to ${floor}`,
    );
  if (step < warmupSteps) return (peak * (step + 1)) / warmupSteps;
  if (step >= totalSteps) return floor;
  const done = (step - warmupSteps) / (totalSteps - warmupSteps);
  return floor + ((peak - floor) * (1 + Math.cos(Math.PI * done))) / 2;
}

/** Rates of `count` steps from `first` on, as inner steps take them. Throws {@link InvalidScheduleError}. */
export function warmupCosineRates(schedule: WarmupCosine, first: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => warmupCosineRate(schedule, first + i));
}
