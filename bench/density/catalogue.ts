/** The runs of the study, by question. */
import { dataParallel, dense, type Method, sparse } from './method.ts';

/** A method under a name. */
export interface Entry {
  /** For `--only` and the tables. */
  readonly name: string;
  /** Heading of its table. */
  readonly question: string;
  readonly method: Method;
  /** Seeds of the whole study: 1 to this one. */
  readonly seeds: number;
  /** Seeds when only what matters most is run. */
  readonly keySeeds: number;
}

const entries: Entry[] = [];

function add(question: string, name: string, method: Method, seeds = 1, keySeeds = 0): void {
  entries.push({ name, question, method, seeds, keySeeds });
}

const publishedScheme = { innerSteps: 1, topK: 4, valueBits: 32, chunking: 'model' } as const;

const baselines = 'Baselines, dense';
add(baselines, 'adamw', dataParallel());
add(baselines, 'adamw, lr 0.006', dataParallel({ learningRate: 0.006 }));
add(baselines, 'adamw, lr 0.0015', dataParallel({ learningRate: 0.0015 }));
add(baselines, 'mean, H=15', dense());
add(baselines, 'diloco, H=15', dense({ outerStep: 0.7, outerMomentum: 0.9 }));

add(baselines, 'mean, H=5', dense({ innerSteps: 5 }));
add(baselines, 'mean, H=1', dense({ innerSteps: 1 }));
add(baselines, 'mean, H=5, step 2', dense({ innerSteps: 5, outerStep: 2 }));
add(baselines, 'diloco, H=5', dense({ innerSteps: 5, outerStep: 0.7, outerMomentum: 0.9 }));

const rounds = 'Steps between exchanges (k=64, 2-bit)';
add(rounds, 'H=5', sparse());
add(rounds, 'H=15', sparse({ innerSteps: 15 }));
add(rounds, 'H=1', sparse({ innerSteps: 1 }));
add(rounds, 'H=1, decay 0.99', sparse({ innerSteps: 1, decay: 0.99 }));
add(rounds, 'H=1, decay 0.99, step 4', sparse({ innerSteps: 1, decay: 0.99, outerStep: 4 }));
add(rounds, 'H=1, step 4', sparse({ innerSteps: 1, outerStep: 4 }));
add(rounds, 'H=2', sparse({ innerSteps: 2 }));
add(rounds, 'H=3', sparse({ innerSteps: 3 }));

const steps = 'Outer step and divisor (k=64, 2-bit, H=5)';
add(steps, 'step 1', sparse({ outerStep: 1 }));
add(steps, 'step 4', sparse({ outerStep: 4 }));
add(steps, 'step 3', sparse({ outerStep: 3 }));
add(steps, 'contributors, step 1', sparse({ divideBy: 'contributors', outerStep: 1 }));

const momentum = 'Outer momentum, inner rate, decay (k=64, 2-bit, H=5)';
add(momentum, 'momentum 0.9, step 0.3', sparse({ outerMomentum: 0.9, outerStep: 0.3 }));
add(momentum, 'lr 0.006', sparse({ learningRate: 0.006 }));
add(momentum, 'decay 1', sparse({ decay: 1 }));
add(momentum, 'decay 0', sparse({ decay: 0 }));

const published = 'The published scheme: 0.1 % of the gradient, float32, every step';
add(published, 'no feedback, step 1', sparse({ ...publishedScheme, submits: 'gradient', outerStep: 1, decay: 0 }));
add(published, 'feedback, step 1', sparse({ ...publishedScheme, submits: 'gradient', outerStep: 1 }));

const density = 'Density and values (H=5)';
add(density, 'k=256', sparse({ topK: 256 }));
add(density, 'k=128', sparse({ topK: 128 }));
add(density, 'k=32', sparse({ topK: 32 }));
add(density, 'k=4', sparse({ topK: 4 }));
add(density, '8-bit', sparse({ valueBits: 8 }));
add(density, 'float32', sparse({ valueBits: 32 }));

/** Everything that was asked, in the order of the tables. */
export const catalogue: readonly Entry[] = entries;

/** Entries whose way is drawn. */
export const curveNames: readonly string[] = ['adamw', 'diloco, H=15', 'mean, H=5', 'H=5', 'H=15'];
