/** The validator role: a node that votes on blocks and scores submissions. */
import { TrainingNode, type TrainingNodeOptions } from '../training-node.ts';
import { Validator } from './validator.ts';

export class ValidatorRole {
  readonly #options: TrainingNodeOptions;
  #parts: { training: TrainingNode; validator: Validator } | undefined;

  constructor(options: TrainingNodeOptions) {
    this.#options = options;
  }

  get node() {
    return this.#parts?.training.node;
  }

  /** Throws what `TrainingNode.start` throws, and the signal's reason. */
  async start({ signal }: { readonly signal?: AbortSignal } = {}): Promise<void> {
    const options = this.#options;
    const training = await TrainingNode.start({
      ...options,
      // It never trains, and scores in fp32.
      engine: { ...options.engine, precision: 'fp32' },
      role: 'validator',
      ...(signal && { signal }),
    });
    const { node, replica, corpus, model, preset, maxSubmissionBytes } = training;
    const validator = new Validator(
      { dir: options.folder.join('validator'), context: preset.context, maxSubmissionBytes },
      {
        genesis: options.networkFile.genesis,
        account: options.identity.account,
        ledger: node.blockchain,
        replica,
        corpus,
        model,
        blobs: node.blobs,
        announcer: node.announcer,
        send: (call, sendOptions) => node.send(call, sendOptions),
        log: options.log.child('validator'),
      },
    );
    this.#parts = { training, validator };
    node.describeRole(() => ({
      work: { ...validator.activity, trainingLoss: null },
      weightsRound: replica.round,
      weightsRoot: replica.root,
    }));
    validator.start();
  }

  /** See ModelClient. */
  get failed() {
    return this.#parts?.training.model.failed;
  }

  async stop(): Promise<void> {
    await this.#parts?.validator.stop();
    await this.#parts?.training.stop();
  }
}
