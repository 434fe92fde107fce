/** Where a native step's time goes, and how near each phase is to the peak of its precision. */
import { tensorLayout } from '../../kernels/model/layout.ts';
import type { Preset } from '../../kernels/model/preset.ts';
import type { NativeProfile } from '../../kernels/native/library.ts';

/** A phase of a training step. */
export type PhaseName = keyof NativeProfile;

/**
 * Floating-point operations of the matrix products that a gradient needs, by phase and without any recomputation: two per
 * weight and token forward, four backward, and the causal half of the attention products.
 */
export function phaseFlops({
  preset,
  batch,
  context,
}: {
  readonly preset: Preset;
  readonly batch: number;
  readonly context: number;
}): Record<PhaseName, number> {
  const tokens = batch * context;
  const blocks = tensorLayout(preset)
    .filter(({ role }) => role === 'projection' || role === 'residual-projection')
    .reduce((sum, { length }) => sum + length, 0);
  const head = preset.vocabulary * preset.hidden;
  const attention = preset.layers * preset.hidden * (context + 1);
  return {
    embedding: 0,
    blocks_forward: 2 * tokens * blocks,
    attention_forward: 2 * tokens * attention,
    head_forward: 2 * tokens * head,
    head_backward: 4 * tokens * head,
    blocks_backward: 4 * tokens * blocks,
    attention_backward: 4 * tokens * attention,
    optimizer: 0,
  };
}

/** One phase of a step. */
export interface PhaseFigures {
  /** Of the time of the whole step. */
  readonly time_share: number;
  readonly milliseconds: number;
  /** Of the products that are needed over the peak on 1024^3; null for a phase without products. */
  readonly peak_share: number | null;
}

const rounded = (value: number): number => Number(value.toPrecision(3));

/** Figures of steps, of each of which there is a profile; `flops` are of one step and `peak` is in GFLOP/s. */
export function phaseFigures(
  profiles: readonly NativeProfile[],
  flops: Readonly<Record<PhaseName, number>>,
  peak: number,
): Record<PhaseName, PhaseFigures> {
  const names = Object.keys(flops) as PhaseName[];
  const secondsOf = (name: PhaseName) => profiles.reduce((sum, profile) => sum + profile[name], 0) / profiles.length;
  const total = names.reduce((sum, name) => sum + secondsOf(name), 0);
  const figures = names.map((name) => {
    const [seconds, work] = [secondsOf(name), flops[name]];
    const phase: PhaseFigures = {
      time_share: rounded(seconds / total),
      milliseconds: rounded(1000 * seconds),
      peak_share: work === 0 ? null : rounded(work / seconds / 1e9 / peak),
    };
    return [name, phase] as const;
  });
  return Object.fromEntries(figures) as Record<PhaseName, PhaseFigures>;
}

/** The same as lines of text. */
export function phaseLines(name: string, figures: Readonly<Record<PhaseName, PhaseFigures>>): string[] {
  return Object.entries(figures).map(
    ([phase, { time_share, milliseconds, peak_share }]) =>
      `${name} ${phase.padEnd(18)} ${milliseconds.toFixed(1).padStart(8)} ms ${(100 * time_share).toFixed(1).padStart(5)} %` +
      `${peak_share === null ? '' : `, ${(100 * peak_share).toFixed(0)} % of the peak`}`,
  );
}
