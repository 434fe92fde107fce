/** The runs of the study, by question. */
import { dataParallel, dense, type Method, phased, sparse } from './method.ts';

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
add(baselines, 'adamw', dataParallel(), 3, 1);
add(baselines, 'adamw, lr 0.006', dataParallel({ learningRate: 0.006 }));
add(baselines, 'adamw, lr 0.0015', dataParallel({ learningRate: 0.0015 }));
add(baselines, 'mean, H=15', dense());
add(baselines, 'diloco, H=15', dense({ outerStep: 0.7, outerMomentum: 0.9 }));

add(baselines, 'mean, H=5', dense({ innerSteps: 5 }));
add(baselines, 'mean, H=1', dense({ innerSteps: 1 }));
add(baselines, 'mean, H=5, step 2', dense({ innerSteps: 5, outerStep: 2 }));
add(baselines, 'diloco, H=5', dense({ innerSteps: 5, outerStep: 0.7, outerMomentum: 0.9 }));

const outerAdam = 'Gradients every step, the same AdamW at everyone (k=64, 2-bit, H=1)';
const gradients = { innerSteps: 1, submits: 'gradient', outerStep: 1 } as const;
add(outerAdam, 'lr 0.01', sparse({ ...gradients, learningRate: 0.01, outerAdamBeta2: 0.95 }));

const rate = 'Inner learning rate (k=64, 2-bit)';
add(rate, 'H=5, lr 0.006', sparse({ learningRate: 0.006 }));
add(rate, 'H=5, lr 0.012', sparse({ learningRate: 0.012 }));
add(rate, 'H=2, lr 0.006', sparse({ innerSteps: 2, learningRate: 0.006 }));
add(rate, 'H=5, lr 0.006, step 1', sparse({ learningRate: 0.006, outerStep: 1 }));

const rounds = 'Steps between exchanges (k=64, 2-bit)';
add(rounds, 'H=5', sparse(), 3, 1);
add(rounds, 'H=5, own start 0.5', sparse({ ownStart: 0.5 }));
add(rounds, 'H=5, own start 1', sparse({ ownStart: 1 }));
add(rounds, 'H=5, lr 0.0015', sparse({ learningRate: 0.0015 }));
add(rounds, 'H=5, step 3', sparse({ outerStep: 3 }));
add(rounds, 'H=15', sparse({ innerSteps: 15 }));
add(rounds, 'H=1', sparse({ innerSteps: 1 }));
add(rounds, 'H=1, decay 0.99', sparse({ innerSteps: 1, decay: 0.99 }));
add(rounds, 'H=1, decay 0.99, step 4', sparse({ innerSteps: 1, decay: 0.99, outerStep: 4 }));
add(rounds, 'H=1, decay 0.99, step 1', sparse({ innerSteps: 1, decay: 0.99, outerStep: 1 }));
add(rounds, 'H=1, step 4', sparse({ innerSteps: 1, outerStep: 4 }));
add(rounds, 'H=2', sparse({ innerSteps: 2 }), 3);
add(rounds, 'H=2, decay 0.98', sparse({ innerSteps: 2, decay: 0.98 }));
add(rounds, 'H=3', sparse({ innerSteps: 3 }));

const steps = 'Outer step and divisor (k=64, 2-bit, H=5)';
add(steps, 'step 1', sparse({ outerStep: 1 }));
add(steps, 'step 4', sparse({ outerStep: 4 }));
add(steps, 'step 3', sparse({ outerStep: 3 }));
add(steps, 'contributors, step 1', sparse({ divideBy: 'contributors', outerStep: 1 }));

const momentum = 'Outer momentum, inner rate, decay (k=64, 2-bit, H=5)';
add(momentum, 'momentum 0.9, step 0.3', sparse({ outerMomentum: 0.9, outerStep: 0.3 }));
add(momentum, 'decay 1', sparse({ decay: 1 }));
add(momentum, 'decay 0', sparse({ decay: 0 }));

const published = 'The published scheme: 0.1 % of the gradient, float32, every step';
const raw = { ...publishedScheme, submits: 'gradient' } as const;
add(published, 'no feedback, step 1', sparse({ ...raw, outerStep: 1, decay: 0 }));
add(published, 'no feedback, step 0.2', sparse({ ...raw, outerStep: 0.2, decay: 0 }));
add(published, 'feedback, step 0.2', sparse({ ...raw, outerStep: 0.2 }));
add(published, 'feedback, step 0.05', sparse({ ...raw, outerStep: 0.05 }));

const density = 'Density and values (H=5)';
add(density, 'k=256', sparse({ topK: 256 }));
add(density, 'k=128', sparse({ topK: 128 }));
add(density, 'k=32', sparse({ topK: 32 }));
add(density, 'k=4', sparse({ topK: 4 }));
add(density, '8-bit', sparse({ valueBits: 8 }));
add(density, 'float32', sparse({ valueBits: 32 }));

const long = 'Long rounds (H=15, 2-bit), as in a local network';
add(long, 'k=64, step 2', sparse({ innerSteps: 15 }));
add(long, 'k=128, step 1.3', sparse({ innerSteps: 15, topK: 128, outerStep: 1.3 }));
add(long, 'k=128, step 2', sparse({ innerSteps: 15, topK: 128 }));
add(long, 'k=256, step 1.3', sparse({ innerSteps: 15, topK: 256, outerStep: 1.3 }));
add(long, 'k=64, step 3', sparse({ innerSteps: 15, outerStep: 3 }));

const schedules = 'Momentum and schedules (k=64, 2-bit but where it says otherwise)';
add(schedules, 'H=2, momentum 0.9, step 0.3', sparse({ innerSteps: 2, outerMomentum: 0.9, outerStep: 0.3 }));
const usual = { topK: 64, valueBits: 2, outerStep: 2 } as const;
add(
  schedules,
  'H=1 for the first tenth, then 5, 2 in the last fifth',
  phased([
    { ...usual, share: 0.1, innerSteps: 1 },
    { ...usual, share: 0.7, innerSteps: 5 },
    { ...usual, share: 0.2, innerSteps: 2 },
  ]),
);
add(
  schedules,
  'H=5, k=256 in the last fifth',
  phased([
    { ...usual, share: 0.8, innerSteps: 5 },
    { ...usual, share: 0.2, innerSteps: 5, topK: 256 },
  ]),
);
add(
  schedules,
  'H=5, dense float32 every step for the first twentieth',
  phased([
    { share: 0.05, innerSteps: 1, topK: null, valueBits: 32, outerStep: 1 },
    { ...usual, share: 0.95, innerSteps: 5 },
  ]),
);

const twice = 'Twice the tokens';
add(twice, 'adamw, twice', dataParallel({ tokenShare: 2 }));
add(twice, 'H=5', sparse({ tokenShare: 2 }));
add(twice, 'H=2', sparse({ tokenShare: 2, innerSteps: 2 }));

const half = 'Half of the submissions dropped at random each round (k=64, 2-bit, H=5)';
add(half, 'all arrive', sparse(), 3);
add(half, 'half dropped', sparse({ halfDropped: 'lost' }), 3);
add(half, 'half dropped, authors take back', sparse({ halfDropped: 'returned' }), 1);
add(half, 'control: half of the workers', sparse({ workers: 2, tokenShare: 0.5 }), 3);

const eight = 'Eight workers, the same tokens';
add(eight, 'adamw, 8 workers', dataParallel({ workers: 8 }), 1);
add(eight, 'mean, H=5', dense({ workers: 8, innerSteps: 5 }));
add(eight, 'k=64, 2-bit, H=5', sparse({ workers: 8 }), 1);
add(eight, 'k=64, 2-bit, H=2', sparse({ workers: 8, innerSteps: 2 }), 1);

const own = 'Each worker on a contiguous part of the text';
add(own, 'mean, H=5', dense({ innerSteps: 5, parts: 'contiguous' }));
add(own, 'k=64, 2-bit, H=5', sparse({ parts: 'contiguous' }));

/** Everything that was asked, in the order of the tables. */
export const catalogue: readonly Entry[] = entries;

/** Entries whose way is drawn. */
export const curveNames: readonly string[] = ['adamw', 'diloco, H=15', 'mean, H=5', 'H=2', 'H=5', 'H=15'];
