/** Every op's vector-Jacobian product against central finite differences, run by onnxruntime. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Session } from '../../kernels/engine/session.ts';
import { gradients } from '../../kernels/graph/autodiff.ts';
import { elementCount, Graph, GraphError, type Value } from '../../kernels/graph/graph.ts';
import * as elementwise from '../../kernels/graph/ops/elementwise.ts';
import * as indexing from '../../kernels/graph/ops/indexing.ts';
import * as matrix from '../../kernels/graph/ops/matrix.ts';
import * as reduction from '../../kernels/graph/ops/reduction.ts';
import * as shape from '../../kernels/graph/ops/shape.ts';
import * as transformer from '../../kernels/graph/ops/transformer.ts';
import { causalAttention } from '../../kernels/model/attention.ts';
import { blockConstants } from '../../kernels/model/block.ts';
import { linearCrossEntropy } from '../../kernels/model/head.ts';
import { parsePreset, presets } from '../../kernels/model/preset.ts';
import { seededValues } from './seeded.ts';

interface Case {
  /** Exported op that the case is for. */
  readonly op: string;
  readonly label?: string;
  /** Shapes of the differentiable inputs. */
  readonly inputs: readonly (readonly number[])[];
  /** Range that inputs are drawn from. */
  readonly range?: readonly [number, number];
  readonly build: (graph: Graph, ...values: Value[]) => Value;
}

const { add, sub, mul, div, scale, greater, where, neg, exp, log, sqrt, reciprocal, tanh, sigmoid, relu, silu, cast } =
  elementwise;
const { reduceSum, reduceMean, reduceSumSquare, reduceMax, sumTo, softmax, logSoftmax } = reduction;
const indices = (graph: Graph, values: number[], dimensions: number[]) =>
  graph.constant(BigInt64Array.from(values, BigInt), dimensions);

const cases: Case[] = [
  {
    op: 'add',
    inputs: [
      [2, 3],
      [2, 3],
    ],
    build: (_, a, b) => add(a!, b!),
  },
  {
    op: 'add',
    label: 'broadcast',
    inputs: [
      [2, 1, 3],
      [4, 1],
    ],
    build: (_, a, b) => add(a!, b!),
  },
  { op: 'sub', inputs: [[2, 3], [3]], build: (_, a, b) => sub(a!, b!) },
  {
    op: 'mul',
    inputs: [
      [2, 3],
      [2, 1],
    ],
    build: (_, a, b) => mul(a!, b!),
  },
  { op: 'mul', label: 'an operand twice', inputs: [[5]], build: (_, a) => mul(a!, a!) },
  { op: 'div', inputs: [[2, 3], [3]], range: [0.5, 2], build: (_, a, b) => div(a!, b!) },
  { op: 'scale', inputs: [[4]], build: (_, a) => scale(a!, -2.5) },
  {
    op: 'where',
    inputs: [[2, 3], [3]],
    build: (graph, a, b) => where(greater(graph.constant(Float32Array.of(1, -1, 1)), graph.scalar(0)), a!, b!),
  },
  { op: 'neg', inputs: [[4]], build: (_, a) => neg(a!) },
  { op: 'exp', inputs: [[4]], build: (_, a) => exp(a!) },
  { op: 'log', inputs: [[4]], range: [0.5, 2], build: (_, a) => log(a!) },
  { op: 'sqrt', inputs: [[4]], range: [0.5, 2], build: (_, a) => sqrt(a!) },
  { op: 'reciprocal', inputs: [[4]], range: [0.5, 2], build: (_, a) => reciprocal(a!) },
  { op: 'tanh', inputs: [[4]], build: (_, a) => tanh(a!) },
  { op: 'sigmoid', inputs: [[4]], build: (_, a) => sigmoid(a!) },
  { op: 'relu', inputs: [[12]], build: (_, a) => relu(a!) },
  { op: 'silu', inputs: [[8]], range: [-4, 4], build: (_, a) => silu(a!) },
  { op: 'cast', inputs: [[4]], build: (_, a) => mul(cast(cast(a!, 'float16'), 'float32'), a!), range: [0.5, 0.5] },
  { op: 'reduceSum', inputs: [[2, 3, 4]], build: (_, a) => reduceSum(a!, [0, -1]) },
  { op: 'reduceSum', label: 'axes dropped', inputs: [[2, 3, 4]], build: (_, a) => reduceSum(a!, [1], { keep: false }) },
  { op: 'reduceMean', inputs: [[2, 3, 4]], build: (_, a) => reduceMean(a!, [1, 2]) },
  { op: 'reduceSumSquare', inputs: [[2, 3]], build: (_, a) => reduceSumSquare(a!, [-1]) },
  { op: 'reduceMax', inputs: [[3, 5]], build: (_, a) => reduceMax(a!, [-1]) },
  { op: 'sumTo', inputs: [[2, 3, 4]], build: (_, a) => sumTo(a!, [3, 1]) },
  { op: 'softmax', inputs: [[3, 5]], build: (_, a) => softmax(a!) },
  { op: 'logSoftmax', inputs: [[3, 5]], build: (_, a) => logSoftmax(a!) },
  { op: 'reshape', inputs: [[2, 6]], build: (_, a) => mul(shape.reshape(a!, [3, 4]), shape.reshape(a!, [3, 4])) },
  { op: 'transpose', inputs: [[2, 3, 4]], build: (_, a) => shape.transpose(a!, [2, 0, 1]) },
  { op: 'expand', inputs: [[3, 1]], build: (_, a) => shape.expand(a!, [2, 3, 4]) },
  { op: 'slice', inputs: [[3, 6]], build: (_, a) => shape.slice(a!, 1, 2, 5) },
  { op: 'pad', inputs: [[3, 2]], build: (_, a) => shape.pad(a!, -1, 1, 2) },
  {
    op: 'concat',
    inputs: [
      [2, 3],
      [2, 1],
      [2, 2],
    ],
    build: (_, ...parts) => shape.concat(parts, 1),
  },
  {
    op: 'split',
    inputs: [[5, 2]],
    build: (_, a) => {
      const [first, , last] = shape.split(a!, 0, [2, 1, 2]);
      return mul(first!, last!);
    },
  },
  ...[false, true].flatMap((transposeA) =>
    [false, true].map((transposeB) => ({
      op: 'gemm',
      label: `transposeA ${transposeA}, transposeB ${transposeB}`,
      inputs: [transposeA ? [4, 3] : [3, 4], transposeB ? [5, 4] : [4, 5]],
      build: (_: Graph, a?: Value, b?: Value) => matrix.gemm(a!, b!, { transposeA, transposeB, alpha: 0.7 }),
    })),
  ),
  { op: 'swapLast', inputs: [[2, 3, 4]], build: (_, a) => matrix.swapLast(a!) },
  {
    op: 'matMul',
    inputs: [
      [2, 3, 4],
      [2, 4, 5],
    ],
    build: (_, a, b) => matrix.matMul(a!, b!),
  },
  {
    op: 'matMul',
    label: 'broadcast',
    inputs: [
      [3, 2, 3, 4],
      [2, 4, 5],
    ],
    build: (_, a, b) => matrix.matMul(a!, b!),
  },
  {
    op: 'matMul',
    label: 'of transposed operands',
    inputs: [
      [2, 4, 3],
      [2, 5, 4],
    ],
    build: (_, a, b) => matrix.matMul(matrix.swapLast(a!), matrix.swapLast(b!)),
  },
  {
    op: 'gatherRows',
    label: 'repeated',
    inputs: [[4, 3]],
    build: (graph, table) => indexing.gatherRows(table!, indices(graph, [2, 0, 2, 1], [2, 2])),
  },
  {
    op: 'scatterRowsAdd',
    inputs: [
      [4, 3],
      [3, 3],
    ],
    build: (graph, table, rows) => indexing.scatterRowsAdd(table!, indices(graph, [1, 3, 1], [3]), rows!),
  },
  {
    op: 'gatherElements',
    inputs: [[3, 4]],
    build: (graph, a) => indexing.gatherElements(a!, indices(graph, [1, 1, 0, 3, 2, 2], [3, 2]), 1),
  },
  {
    op: 'scatterElementsAdd',
    inputs: [
      [3, 4],
      [3, 2],
    ],
    build: (graph, a, b) => indexing.scatterElementsAdd(a!, indices(graph, [1, 1, 0, 3, 2, 2], [3, 2]), b!, -1),
  },
  { op: 'topK', inputs: [[3, 7]], build: (_, a) => indexing.topK(a!, 3).values },
  { op: 'rmsNorm', inputs: [[3, 8], [8]], build: (_, x, w) => transformer.rmsNorm(x!, w!, 1e-5) },
  { op: 'rmsNorm', label: 'large epsilon', inputs: [[3, 8], [8]], build: (_, x, w) => transformer.rmsNorm(x!, w!, 1) },
  {
    op: 'rotary',
    inputs: [[2, 5, 12]],
    build: (graph, x) => {
      const preset = parsePreset({ ...presets['alice-nano'], hidden: 12, queryHeads: 3, keyValueHeads: 1 });
      return transformer.rotary(x!, 3, blockConstants(graph, preset, 5).rotary);
    },
  },
  {
    op: 'linearCrossEntropy',
    inputs: [
      [4, 3],
      [6, 3],
    ],
    range: [-2, 2],
    build: (graph, x, w) => linearCrossEntropy(x!, w!, indices(graph, [0, 5, 2, 2], [4, 1])),
  },
  ...[1, 2, 3, 5, 8].map(
    (tile): Case => ({
      op: 'causalAttention',
      label: `tiles of ${tile} of 5 positions`,
      inputs: [
        [2, 2, 3, 5, 2],
        [2, 2, 5, 2],
        [2, 2, 5, 2],
      ],
      range: [-2, 2],
      build: (_, query, key, value) => causalAttention(query!, key!, value!, tile),
    }),
  ),
];

/** Exports that are no differentiable ops. */
const notOps = ['broadcastShape', 'normalizeAxes', 'greater', 'equal'];

/** Step of the central differences: balances float32 rounding of the loss against its curvature. */
const STEP = 4e-3;
/** Agreed share of the largest gradient component. */
const TOLERANCE = 3e-3;

for (const [index, { op, label, inputs, range = [-1, 1], build }] of cases.entries())
  test(`${op}${label === undefined ? '' : ` (${label})`}`, async () => {
    const graph = new Graph();
    const values = inputs.map((dimensions, i) => graph.input(`x${i}`, { dtype: 'float32', shape: dimensions }));
    const y = build(graph, ...values);
    const projection = graph.constant(seededValues(1000 + index, elementCount(y.shape)), y.shape);
    const all = [...y.shape.keys()];
    graph.output('loss', reduceSum(mul(y, projection), all, { keep: false }));
    for (const [i, gradient] of gradients(graph, [{ value: y, gradient: projection }], values).entries()) {
      assert.ok(gradient, `input ${i} has a gradient`);
      graph.output(`d${i}`, gradient!);
    }
    const session = await Session.create(op, graph, { threads: 1 });
    const data = inputs.map((dimensions, i) => seededValues(10 * index + i, elementCount(dimensions), ...range));
    const loss = new Float32Array(1);
    const computed = data.map((x) => new Float32Array(x.length));
    const feeds = Object.fromEntries(data.map((x, i) => [`x${i}`, session.bind(`x${i}`, x)]));
    const fetches = {
      loss: session.bind('loss', loss),
      ...Object.fromEntries(computed.map((x, i) => [`d${i}`, session.bind(`d${i}`, x)])),
    };
    await session.run(feeds, fetches);
    const analytic = computed.map((gradient) => gradient.slice());
    const largest = Math.max(...analytic.flatMap((gradient) => [...gradient].map(Math.abs)));
    assert.ok(largest > 1e-3, 'the case has a gradient worth checking');
    const step = op === 'cast' ? 2 ** -6 : STEP;
    for (const [i, x] of data.entries())
      for (let at = 0; at < x.length; at++) {
        const original = x[at]!;
        x[at] = original + step;
        const above = x[at]!;
        await session.run(feeds, fetches);
        const high = loss[0]!;
        x[at] = original - step;
        const below = x[at]!;
        await session.run(feeds, fetches);
        const numeric = (high - loss[0]!) / (above - below);
        x[at] = original;
        const difference = Math.abs(numeric - analytic[i]![at]!);
        assert.ok(
          difference <= TOLERANCE * Math.max(1, largest),
          `input ${i}[${at}]: ${analytic[i]![at]} analytic, ${numeric} numeric`,
        );
      }
    await session.close();
  });

test('every exported op has a case', () => {
  const covered = new Set([...cases.map(({ op }) => op), ...notOps]);
  for (const module of [elementwise, indexing, matrix, reduction, shape, transformer])
    for (const name of Object.keys(module)) assert.ok(covered.has(name), name);
});

test('operands that do not fit are refused when the graph is built', () => {
  const graph = new Graph();
  const x = graph.input('x', { dtype: 'float32', shape: [2, 3] });
  const y = graph.input('y', { dtype: 'float32', shape: [2, 4] });
  const i = graph.input('i', { dtype: 'int64', shape: [2, 3] });
  const other = new Graph().input('z', { dtype: 'float32', shape: [2, 3] });
  const mistakes: (() => unknown)[] = [
    () => add(x, y),
    () => add(x, i),
    () => add(x, other),
    () => matrix.gemm(x, y),
    () => matrix.matMul(x, y),
    () => shape.reshape(x, [5]),
    () => shape.transpose(x, [0, 0]),
    () => shape.slice(x, 1, 2, 4),
    () => shape.concat([x, y], 0),
    () => shape.expand(x, [2, 6]),
    () => reduceSum(x, [2]),
    () => indexing.gatherRows(x, y),
    () => indexing.topK(x, 4),
    () => transformer.rmsNorm(x, y, 1e-5),
  ];
  for (const [index, mistake] of mistakes.entries())
    assert.throws(mistake, (error: Error) => error instanceof GraphError, `mistake ${index}`);
});

test('a gradient through an op that has none is an error, not a zero', () => {
  const graph = new Graph();
  const x = graph.input('x', { dtype: 'float32', shape: [3] });
  const y = cast(greater(x, graph.scalar(0)), 'float32');
  assert.throws(
    () => gradients(graph, [{ value: greater(x, y), gradient: x }], [x]),
    (error: Error) => error instanceof GraphError,
  );
});

test.run();
