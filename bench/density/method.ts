/**
 * What a run of the density study does: a method of training together, as plain data, so that a result says exactly what
 * it is the result of.
 */
import type { ValueBits } from '../../kernels/gradient/quantize.ts';

/** What every method has. */
interface Common {
  /** Simulated workers. */
  readonly workers: number;
  /** Peak learning rate of AdamW: warm-up over 5 % of the steps, then cosine to a tenth. */
  readonly learningRate: number;
  /** Share of the study's tokens that is trained on, 1 but for controls. */
  readonly tokenShare: number;
  /** Which text a worker reads: pieces from everywhere, or its own contiguous part of the corpus. */
  readonly parts: 'interleaved' | 'contiguous';
}

/** One AdamW on the mean gradient of all workers, exchanged as dense float32 at every step. */
export interface DataParallel extends Common {
  readonly kind: 'data-parallel';
}

/** How a stretch of a run exchanges. */
export interface Phase {
  /** Share of the run's steps; those of all phases add up to 1. */
  readonly share: number;
  /** Steps between exchanges (H). */
  readonly innerSteps: number;
  /** Elements kept of 4096; null for dense float32. */
  readonly topK: number | null;
  readonly valueBits: ValueBits;
  /** Factor on the aggregate. For submitted gradients it follows the schedule of the learning rate. */
  readonly outerStep: number;
}

/** Workers go their own way for some steps from the shared weights and exchange what it amounts to. */
export interface LocalSteps extends Common {
  readonly kind: 'local-steps';
  /** What a worker submits: start minus end of its AdamW steps, or the gradient itself (then a round has one step). */
  readonly submits: 'inner-steps' | 'gradient';
  readonly phases: readonly Phase[];
  /** Where top-k looks: 64x64 tiles (the network's way), or the whole model at once (the published 0.1 %). */
  readonly chunking: 'tiles' | 'model';
  /** Decay of the error feedback; 0 is none. */
  readonly decay: number;
  /** Divisor of a coordinate's sum: submissions present in the round, or those that have the coordinate. */
  readonly divideBy: 'present' | 'contributors';
  /** Nesterov momentum of the outer step; 0 is none. */
  readonly outerMomentum: number;
  /**
   * Half of the submissions, drawn anew each round, do not arrive. `lost`: their authors believe they did. `returned`:
   * their authors see it and put what they sent back into their error feedback.
   */
  readonly halfDropped: 'no' | 'lost' | 'returned';
  /**
   * With submitted gradients: everyone runs one and the same AdamW on the aggregate, with this decay of the mean square,
   * at the rates of the inner AdamW, instead of an outer step.
   */
  readonly outerAdamBeta2?: number;
  /**
   * Where a worker's steps start: at the shared weights (when absent), or this share of its own error feedback further on,
   * where it stands in its own view. Nobody else needs to know.
   */
  readonly ownStart?: number;
}

/** A method of training together. */
export type Method = DataParallel | LocalSteps;

/** Changes to {@link sparse}: its own fields, and those of its only phase. */
export type SparseChanges = Partial<Omit<LocalSteps, 'kind' | 'phases'>> & Partial<Omit<Phase, 'share'>>;

/** AdamW data parallel. */
export function dataParallel(changes: Partial<Omit<DataParallel, 'kind'>> = {}): DataParallel {
  return { kind: 'data-parallel', workers: 4, learningRate: 0.003, tokenShare: 1, parts: 'interleaved', ...changes };
}

/** The SparseLoCo family around the setting that is 200 times smaller than float32: k = 64 of 4096, 2-bit values. */
export function sparse(changes: SparseChanges = {}): LocalSteps {
  const { innerSteps = 5, topK = 64, valueBits = 2, outerStep = 2, ...others } = changes;
  return phased([{ share: 1, innerSteps, topK, valueBits, outerStep }], others);
}

/** As {@link sparse}, with phases of its own. */
export function phased(
  phases: readonly Phase[],
  changes: Partial<Omit<LocalSteps, 'kind' | 'phases'>> = {},
): LocalSteps {
  return {
    kind: 'local-steps',
    workers: 4,
    learningRate: 0.003,
    tokenShare: 1,
    parts: 'interleaved',
    submits: 'inner-steps',
    phases,
    chunking: 'tiles',
    decay: 0.95,
    divideBy: 'present',
    outerMomentum: 0,
    halfDropped: 'no',
    ...changes,
  };
}

/** Plain average of dense local steps; with momentum it is DiLoCo. */
export function dense(changes: SparseChanges = {}): LocalSteps {
  return sparse({ innerSteps: 15, topK: null, valueBits: 32, outerStep: 1, decay: 0, ...changes });
}
