/**
 * What miners and validators have in common: a node, a model in its worker thread, the replica that keeps the weights
 * in step with the ledger, and the corpus.
 */
import { availableParallelism } from 'node:os';
import type { BackendChoice, PrecisionChoice } from '../kernels/engine/backend.ts';
import { chooseEngine } from '../kernels/engine/choose-engine.ts';
import type { DeviceChoice } from '../kernels/engine/device/device.ts';
import { formatSize, type MemoryMode, parseSize } from '../kernels/engine/memory-plan.ts';
import { updateLimits } from '../kernels/gradient/agf1.ts';
import { parameterCount, tensorLayout } from '../kernels/model/layout.ts';
import { type Preset, parsePreset } from '../kernels/model/preset.ts';
import { presetHash } from '../kernels/model/preset-hash.ts';
import { ModelClient } from '../kernels/session/model-client.ts';
import type { Call } from '../node/chain/transaction.ts';
import { AliceNode, type NodeOptions } from '../node/node.ts';
import { CorpusSource } from './replica/corpus-source.ts';
import { ModelReplica } from './replica/model-replica.ts';
import { RoundBlobs } from './replica/round-blobs.ts';

export interface TrainingNodeOptions extends NodeOptions {
  /** How the model is run. */
  readonly engine: {
    readonly backend: BackendChoice;
    readonly device: DeviceChoice;
    /** Of training. */
    readonly precision: PrecisionChoice;
    /** Threads for computing; 0 takes all cores. */
    readonly threads: number;
    /** Most memory for the model, such as `6GiB`; `auto` or nothing sets no limit. */
    readonly memory?: string;
  };
  /** Ends a start that takes long: initial weights, weights read from disk. */
  readonly signal?: AbortSignal;
}

/** What the ways of running a model are called in the log. */
const MEMORY_MODES: Readonly<Record<MemoryMode, string>> = {
  whole: 'weights and activations in memory',
  blocks: 'weights in memory and activations recomputed',
  streamed: 'weights streamed from disk',
  'streamed-no-prefetch': 'weights streamed from disk without reading ahead',
};

/** Started parts that a training role works with. */
export class TrainingNode {
  readonly node: AliceNode;
  readonly model: ModelClient;
  readonly replica: ModelReplica;
  readonly roundBlobs: RoundBlobs;
  readonly corpus: CorpusSource;
  readonly preset: Preset;
  /** Largest submission that a well-behaved miner can make under the network's recipe. */
  readonly maxSubmissionBytes: number;

  private constructor(
    parts: Pick<TrainingNode, 'node' | 'model' | 'replica' | 'roundBlobs' | 'corpus' | 'preset' | 'maxSubmissionBytes'>,
  ) {
    this.node = parts.node;
    this.model = parts.model;
    this.replica = parts.replica;
    this.roundBlobs = parts.roundBlobs;
    this.corpus = parts.corpus;
    this.preset = parts.preset;
    this.maxSubmissionBytes = parts.maxSubmissionBytes;
  }

  /**
   * Starts the node and the model, and loads the weights. Throws InvalidPresetError, DeviceUnavailableError,
   * BackendUnavailableError, InvalidSizeError, ModelJobError, what the node throws, the signal's reason.
   */
  static async start(options: TrainingNodeOptions): Promise<TrainingNode> {
    const { genesis } = options.networkFile;
    const preset = parsePreset(genesis.preset);
    const recipe = genesis.parameters.training;
    const layout = tensorLayout(preset);
    const { maxBytes: maxSubmissionBytes } = updateLimits(layout, recipe);
    const threads = options.engine.threads || availableParallelism();
    const { message, ...engine } = await chooseEngine({ ...options.engine, threads });
    options.log.info({ ...engine, threads }, message);
    await using cleanup = new AsyncDisposableStack();
    const node = await AliceNode.start(options);
    cleanup.defer(() => node.stop());
    const { memory = 'auto' } = options.engine;
    const memoryBytes = memory === 'auto' ? {} : { memoryBytes: parseSize(memory) };
    const streamFolder = options.folder.join('streaming');
    const call = options.signal && { signal: options.signal };
    const session = { preset, recipe, threads, ...engine, ...memoryBytes, streamFolder };
    const model = await ModelClient.start(session, call);
    cleanup.defer(() => model.close());
    const { backend, mode, bytes } = model.memory;
    options.log.info(
      { backend, mode, bytes: Math.round(bytes) },
      `the model runs with ${MEMORY_MODES[mode]}, in about ${formatSize(bytes)}`,
    );
    const weights = {
      path: options.folder.join('weights.bin'),
      presetHash: presetHash(preset),
      elements: parameterCount(preset),
    };
    const roundBlobs = new RoundBlobs({ ledger: node.blockchain, store: node.blobStore, announcer: node.announcer });
    cleanup.defer(() => roundBlobs.stop());
    const replica = new ModelReplica(
      { weights, maxSubmissionBytes },
      {
        genesis,
        ledger: node.blockchain,
        blobs: node.blobs,
        roundBlobs,
        model,
        log: options.log.child('replica'),
      },
    );
    await replica.open(call);
    const corpus = new CorpusSource({ genesis, blobs: node.blobs, announcer: node.announcer });
    cleanup.move();
    return new TrainingNode({ node, model, replica, roundBlobs, corpus, preset, maxSubmissionBytes });
  }

  /** What the duty of either role works with; it logs under `name`. */
  components({ networkFile, identity, log }: TrainingNodeOptions, name: string) {
    const { node, replica, roundBlobs, corpus, model } = this;
    return {
      genesis: networkFile.genesis,
      account: identity.account,
      peerId: node.network.peerId,
      ledger: node.blockchain,
      replica,
      corpus,
      model,
      blobs: node.blobs,
      roundBlobs,
      send: (call: Call, options: { signal: AbortSignal }) => node.send(call, options),
      log: log.child(name),
    };
  }

  async stop(): Promise<void> {
    this.roundBlobs.stop();
    await this.model.close();
    await this.node.stop();
  }
}
