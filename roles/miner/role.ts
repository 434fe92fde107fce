/** The miner role: a node that trains. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { TrainingNode, type TrainingNodeOptions } from '../training-node.ts';
import { ERROR_FEEDBACK_FILE, Miner, type MinerInit } from './miner.ts';

export interface MinerRoleOptions extends TrainingNodeOptions {
  /** Free text about the device, at most 64 bytes, public on the ledger. */
  readonly device: string;
  /** Tests only: submit noise instead of training. */
  readonly adversary: 'none' | 'noise';
  /** See `MinerInit`. */
  readonly registration?: MinerInit['registration'];
}

export class MinerRole {
  readonly #options: MinerRoleOptions;
  #parts: { training: TrainingNode; miner: Miner } | undefined;

  constructor(options: MinerRoleOptions) {
    this.#options = options;
  }

  get node() {
    return this.#parts?.training.node;
  }

  /** Throws what `TrainingNode.start` throws, and the signal's reason. */
  async start({ signal }: { readonly signal?: AbortSignal } = {}): Promise<void> {
    const options = this.#options;
    const training = await TrainingNode.start({ ...options, role: 'miner', ...(signal && { signal }) });
    const { node, replica, model, preset } = training;
    const dir = options.folder.join('miner');
    const miner = new Miner(
      {
        dir,
        device: options.device,
        context: preset.context,
        adversary: options.adversary,
        registration: options.registration ?? 'auto',
      },
      training.components(options, 'miner'),
    );
    // Known from here on, so that stop() ends what was started when the rest fails.
    this.#parts = { training, miner };
    await mkdir(dir, { recursive: true });
    await model.openErrorFeedback(join(dir, ERROR_FEEDBACK_FILE));
    node.describeRole(() => ({ work: miner.activity, weightsRound: replica.round, weightsRoot: replica.root }));
    miner.start();
  }

  /** See ModelClient. */
  get failed() {
    return this.#parts?.training.model.failed;
  }

  async stop(): Promise<void> {
    await this.#parts?.miner.stop();
    await this.#parts?.training.stop();
  }
}
