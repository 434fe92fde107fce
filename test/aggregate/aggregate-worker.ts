/** A thread that aggregates some tensors of a round, for tests. */
import { parentPort, workerData } from 'node:worker_threads';
import { aggregateTensors, type Submission } from '../../kernels/aggregate/rule.ts';
import type { TensorLayout } from '../../kernels/gradient/layout.ts';
import { ruleNamed } from './updates.ts';

const { name, layout, submissions, first, end } = workerData as {
  name: string;
  layout: TensorLayout;
  submissions: Submission[];
  first: number;
  end: number;
};
parentPort?.postMessage([...aggregateTensors(ruleNamed(name), layout, submissions, { first, end })]);
