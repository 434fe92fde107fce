/** Runs a model as one graph: fastest where all activations fit, since nothing is computed twice. */
import { gradientName, wholeForwardGraph, wholeTrainingGraph } from '../model/programs.ts';
import { headSlot, type ModelRunner, type RunnerInit, tensorView } from './model-runner.ts';
import { type BoundTensor, Session } from './session.ts';

type Tensors = Record<string, BoundTensor>;

/** {@link ModelRunner} over one forward and one training graph. */
export class WholeRunner implements ModelRunner {
  readonly #init: RunnerInit;
  #forward: { readonly session: Session; readonly feeds: Tensors; readonly fetches: Tensors } | undefined;
  #training: { readonly session: Session; readonly feeds: Tensors } | undefined;
  #gradientFetches: { readonly gradient: Float32Array; readonly fetches: Tensors } | undefined;

  constructor(init: RunnerInit) {
    this.#init = init;
  }

  async forward(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (this.#forward === undefined) {
      const { preset, shape, headRows, session: options, buffers } = this.#init;
      const session = await Session.create('forward', wholeForwardGraph(preset, shape, headRows), options);
      const fetches = { losses: session.bind('losses', buffers.losses) };
      this.#forward = { session, feeds: this.#feeds(session), fetches };
    }
    await this.#forward.session.run(this.#forward.feeds, this.#forward.fetches);
  }

  async train(gradient: Float32Array<ArrayBuffer>, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (this.#training === undefined) {
      const { preset, shape, headRows, session: options, buffers } = this.#init;
      const session = await Session.create('training', wholeTrainingGraph(preset, shape, headRows), options);
      const feeds = { ...this.#feeds(session), rowWeights: session.bind('rowWeights', buffers.rowWeights) };
      this.#training = { session, feeds };
    }
    const { session, feeds } = this.#training;
    // Callers alternate between at most two buffers; binding again costs microseconds.
    if (this.#gradientFetches?.gradient !== gradient)
      this.#gradientFetches = { gradient, fetches: this.#fetches(session, gradient) };
    await session.run(feeds, this.#gradientFetches.fetches);
  }

  async close(): Promise<void> {
    await this.#forward?.session.close();
    await this.#training?.session.close();
  }

  #feeds(session: Session): Tensors {
    const { preset, layout, buffers } = this.#init;
    const feeds: Tensors = {
      x: session.bind('x', buffers.embedded),
      targets: session.bind('targets', buffers.targets),
    };
    for (const slot of layout)
      if (slot.role !== 'embedding') feeds[slot.name] = session.bind(slot.name, tensorView(buffers.weights, slot));
    feeds.head = session.bind('head', tensorView(buffers.weights, headSlot(preset, layout)));
    return feeds;
  }

  #fetches(session: Session, gradient: Float32Array<ArrayBuffer>): Tensors {
    const { preset, layout, buffers } = this.#init;
    const bind = (name: string, data: Float32Array) => {
      fetches[gradientName(name)] = session.bind(gradientName(name), data);
    };
    const fetches: Tensors = { losses: session.bind('losses', buffers.losses) };
    bind('x', buffers.embeddedGradient);
    for (const slot of layout) if (slot.role !== 'embedding') bind(slot.name, tensorView(gradient, slot));
    bind('head', tensorView(gradient, headSlot(preset, layout)));
    return fetches;
  }
}
