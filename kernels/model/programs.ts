/**
 * The graphs that an engine runs. Two families over the same blocks:
 *
 * - block-wise: one forward and one backward graph serve every layer, and backward recomputes the block from its input,
 *   so that memory holds one activation tensor per layer and one layer's weights at a time;
 * - whole: the model in one graph, for presets whose activations fit.
 *
 * The embedding is a table lookup outside of the graphs: only the rows in use are ever touched. Activations are
 * `[batch * positions, hidden]`. Weights are inputs named as in `layout.ts` (without the layer prefix in block graphs).
 * The gradient with respect to `NAME` is the output `d.NAME`.
 */
import { gradients } from '../graph/autodiff.ts';
import { Graph, GraphError, type Value } from '../graph/graph.ts';
import { rmsNorm } from '../graph/ops/transformer.ts';
import { type BatchShape, block, blockConstants } from './block.ts';
import { head, tileCrossEntropy, tileStatistics } from './head.ts';
import { type BlockTensorName, blockTensorNames, blockTensors, tensorLayout } from './layout.ts';
import type { Preset } from './preset.ts';

/** Name of the output that holds the gradient with respect to an input. */
export function gradientName(name: string): string {
  return `d.${name}`;
}

function blockWeights(graph: Graph, preset: Preset): Record<BlockTensorName, Value> {
  const tensors = blockTensors(preset);
  const entries = blockTensorNames.map((name) => [
    name,
    graph.input(name, { dtype: 'float32', shape: tensors[name].shape }),
  ]);
  return Object.fromEntries(entries) as Record<BlockTensorName, Value>;
}

function activation(graph: Graph, name: string, preset: Preset, rows: number): Value {
  return graph.input(name, { dtype: 'float32', shape: [rows, preset.hidden] });
}

function outputGradients(graph: Graph, loss: { value: Value; gradient: Value }, inputs: readonly Value[]): void {
  for (const [index, gradient] of gradients(graph, [loss], inputs).entries()) {
    const input = inputs[index];
    if (input === undefined || gradient === undefined) throw new GraphError('an input does not reach the loss');
    graph.output(gradientName(input.name), gradient);
  }
}

/** `x`, block weights -> `y`. */
export function blockForwardGraph(preset: Preset, shape: BatchShape): Graph {
  const graph = new Graph();
  const x = activation(graph, 'x', preset, shape.batch * shape.positions);
  const constants = blockConstants(graph, preset, shape.positions);
  graph.output('y', block(x, blockWeights(graph, preset), constants, preset, shape));
  return graph;
}

/** `x`, `d.y`, block weights -> `d.x`, `d.<weight>`. Recomputes the block. */
export function blockBackwardGraph(preset: Preset, shape: BatchShape): Graph {
  const graph = new Graph();
  const rows = shape.batch * shape.positions;
  const x = activation(graph, 'x', preset, rows);
  const dy = activation(graph, 'd.y', preset, rows);
  const weights = blockWeights(graph, preset);
  const y = block(x, weights, blockConstants(graph, preset, shape.positions), preset, shape);
  outputGradients(graph, { value: y, gradient: dy }, [x, ...Object.values(weights)]);
  return graph;
}

interface HeadInputs {
  readonly x: Value;
  readonly norm: Value;
  readonly weight: Value;
  readonly losses: Value;
}

function headInputs(graph: Graph, preset: Preset, rows: number): HeadInputs {
  const x = activation(graph, 'x', preset, rows);
  const norm = graph.input('norm', { dtype: 'float32', shape: [preset.hidden] });
  const weight = graph.input('head', { dtype: 'float32', shape: [preset.vocabulary, preset.hidden] });
  const targets = graph.input('targets', { dtype: 'int64', shape: [rows, 1] });
  return { x, norm, weight, losses: head(x, norm, weight, targets, preset) };
}

/** `x`, `norm`, `head`, `targets` -> `losses` `[rows, 1]` in nats. */
export function headForwardGraph(preset: Preset, rows: number): Graph {
  const graph = new Graph();
  graph.output('losses', headInputs(graph, preset, rows).losses);
  return graph;
}

/** `x`, `norm`, `head`, `targets`, `rowWeights` `[rows, 1]` -> `losses`, `d.x`, `d.norm`, `d.head` of the weighted sum. */
export function headTrainingGraph(preset: Preset, rows: number): Graph {
  const graph = new Graph();
  const { x, norm, weight, losses } = headInputs(graph, preset, rows);
  const rowWeights = graph.input('rowWeights', { dtype: 'float32', shape: [rows, 1] });
  graph.output('losses', losses);
  outputGradients(graph, { value: losses, gradient: rowWeights }, [x, norm, weight]);
  return graph;
}

interface TileInputs {
  readonly x: Value;
  readonly norm: Value;
  readonly normalized: Value;
  readonly weight: Value;
  readonly targets: Value;
}

function tileInputs(graph: Graph, preset: Preset, rows: number, tileRows: number): TileInputs {
  const x = activation(graph, 'x', preset, rows);
  const norm = graph.input('norm', { dtype: 'float32', shape: [preset.hidden] });
  const weight = graph.input('head', { dtype: 'float32', shape: [tileRows, preset.hidden] });
  const targets = graph.input('targets', { dtype: 'int64', shape: [rows, 1] });
  return { x, norm, normalized: rmsNorm(x, norm, preset.normEpsilon), weight, targets };
}

/** `x`, `norm`, `head` (`tileRows` of it), `targets` -> `max`, `sum`, `target`, each `[rows, 1]`: {@link tileStatistics}. */
export function headTileStatisticsGraph(preset: Preset, rows: number, tileRows: number): Graph {
  const graph = new Graph();
  const { normalized, weight, targets } = tileInputs(graph, preset, rows, tileRows);
  for (const [name, value] of Object.entries(tileStatistics(normalized, weight, targets))) graph.output(name, value);
  return graph;
}

/**
 * `x`, `norm`, `head` (`tileRows` of it), `targets`, `logSumExp`, `hit`, `rowWeights` (each `[rows, 1]`) -> the tile's
 * share in `d.x`, `d.norm`, and `d.head`: {@link tileCrossEntropy}.
 */
export function headTileTrainingGraph(preset: Preset, rows: number, tileRows: number): Graph {
  const graph = new Graph();
  const { x, norm, normalized, weight, targets } = tileInputs(graph, preset, rows, tileRows);
  const [logSumExp, hit, rowWeights] = ['logSumExp', 'hit', 'rowWeights'].map((name) =>
    graph.input(name, { dtype: 'float32', shape: [rows, 1] }),
  ) as [Value, Value, Value];
  const value = tileCrossEntropy(normalized, weight, targets, logSumExp, hit);
  outputGradients(graph, { value, gradient: rowWeights }, [x, norm, weight]);
  return graph;
}

function wholeModel(
  graph: Graph,
  preset: Preset,
  shape: BatchShape,
  headRows: number,
): { x: Value; weights: Value[]; losses: Value } {
  const rows = shape.batch * shape.positions;
  const x = activation(graph, 'x', preset, rows);
  const targets = graph.input('targets', { dtype: 'int64', shape: [rows, 1] });
  const names = tensorLayout(preset).filter((slot) => slot.role !== 'embedding' && slot.role !== 'head');
  const weights = new Map(
    names.map((slot) => [slot.name, graph.input(slot.name, { dtype: 'float32', shape: slot.shape })]),
  );
  // A tied head is the embedding table, fed under the head's name.
  const headWeight = graph.input('head', { dtype: 'float32', shape: [preset.vocabulary, preset.hidden] });
  const weight = (name: string): Value => {
    const value = weights.get(name);
    if (value === undefined) throw new GraphError(`no tensor ${name}`);
    return value;
  };
  const constants = blockConstants(graph, preset, shape.positions);
  let y = x;
  for (let layer = 0; layer < preset.layers; layer++) {
    const entries = blockTensorNames.map((name) => [name, weight(`layers.${layer}.${name}`)]);
    y = block(y, Object.fromEntries(entries) as Record<BlockTensorName, Value>, constants, preset, shape);
  }
  return {
    x,
    weights: [...weights.values(), headWeight],
    losses: head(y, weight('norm'), headWeight, targets, preset, headRows),
  };
}

/** `x`, `targets`, all weights but the embedding -> `losses` `[rows, 1]` in nats. `headRows` have logits at once. */
export function wholeForwardGraph(preset: Preset, shape: BatchShape, headRows: number): Graph {
  const graph = new Graph();
  graph.output('losses', wholeModel(graph, preset, shape, headRows).losses);
  return graph;
}

/** `x`, `targets`, `rowWeights`, all weights but the embedding -> `losses`, `d.x`, `d.<weight>` of the weighted sum. */
export function wholeTrainingGraph(preset: Preset, shape: BatchShape, headRows: number): Graph {
  const graph = new Graph();
  const { x, weights, losses } = wholeModel(graph, preset, shape, headRows);
  const rowWeights = graph.input('rowWeights', { dtype: 'float32', shape: [shape.batch * shape.positions, 1] });
  graph.output('losses', losses);
  outputGradients(graph, { value: losses, gradient: rowWeights }, [x, ...weights]);
  return graph;
}
