/**
 * The model replica: weights that follow the ledger.
 *
 * Update by update it applies the accepted submissions and compares the root of the result with the one the ledger
 * recorded. It starts from what is on disk, else from the seed in genesis, else from the latest checkpoint; a replica
 * that ends up with another root throws its weights away and starts again from a checkpoint.
 *
 * Weights on which validators have not agreed yet are in memory only (or in the working files of a model that streams),
 * so that a round whose aggregation fails costs no more than reading the weights from disk again.
 */

import type { ModelClient } from '../../kernels/session/model-client.ts';
import { FetchTimeoutError } from '../../node/blobs/errors.ts';
import type { BlobExchange } from '../../node/blobs/exchange.ts';
import type { Genesis } from '../../node/chain/genesis.ts';
import { type Hash, hashBytes, parseHash } from '../../node/chain/hash.ts';
import type { RoundResult } from '../../node/ledger/round-records.ts';
import type { LedgerState } from '../../node/ledger/state.ts';
import type { Logger } from '../../node/log/logger.ts';
import type { PeerIdText } from '../../node/network/interface.ts';
import { checkpointPieces, downloadCheckpoint, holdsWeights, type WeightsFile } from './checkpoint.ts';
import { DivergedError } from './errors.ts';
import type { RoundBlobs } from './round-blobs.ts';
import type { TrainingLedger } from './training-ledger.ts';

/** Longest download of a submission before the ledger is looked at again: there may be a checkpoint by now. */
const SUBMISSION_TIMEOUT_MS = 60_000;

/** Times that weights which are not the ledger's are replaced before that is an error: from disk, and by a checkpoint. */
const MAX_RESTARTS = 2;

export interface ModelReplicaComponents {
  readonly genesis: Genesis;
  readonly ledger: TrainingLedger;
  readonly blobs: BlobExchange;
  readonly roundBlobs: RoundBlobs;
  readonly model: ModelClient;
  readonly log: Logger;
}

export interface ModelReplicaInit {
  /** The weights that are kept between runs. */
  readonly weights: WeightsFile;
  /** Largest submission that is fetched at all. */
  readonly maxSubmissionBytes: number;
}

export class ModelReplica {
  readonly #components: ModelReplicaComponents;
  readonly #init: ModelReplicaInit;
  #round: number | null = null;
  #root: Hash | null = null;
  /** True while the file of weights is behind those that the model holds. */
  #unsaved = false;
  /** Work on the weights happens one after the other. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(init: ModelReplicaInit, components: ModelReplicaComponents) {
    this.#init = init;
    this.#components = components;
  }

  /** Round after which the weights stand; null before {@link open}. */
  get round(): number | null {
    return this.#round;
  }

  /** Root of the weights; null before {@link open}. */
  get root(): Hash | null {
    return this.#root;
  }

  /** Loads weights from disk, or makes the initial ones from the seed; offers to others again what it has for them. */
  async open(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    const { model, genesis, roundBlobs, log } = this.#components;
    roundBlobs.offerHeld();
    const saved = await model.open(this.#init.weights.path, options);
    if (saved !== undefined) {
      this.#round = saved.round;
      this.#root = parseHash(saved.modelRoot);
      log.info({ round: saved.round, modelRoot: saved.modelRoot }, 'weights read from disk');
      return;
    }
    await this.#initialize(parseHash(genesis.modelRoot), options);
  }

  async #initialize(expected: Hash, options: { readonly signal?: AbortSignal }): Promise<void> {
    const { model, genesis } = this.#components;
    const root = parseHash(await model.initialize(hashBytes(parseHash(genesis.seed)), options));
    if (root !== expected) {
      throw new DivergedError(
        `this machine computes other initial weights (${root.slice(0, 16)}) than the genesis says (${expected.slice(0, 16)})`,
      );
    }
    this.#round = 0;
    this.#root = root;
  }

  /**
   * Brings the weights to those of the ledger's last settled round, the aggregation of the open one included once its
   * scores are settled. Resolves with the state it caught up with.
   */
  async catchUp({ signal }: { signal: AbortSignal }): Promise<LedgerState> {
    return await this.#inTurn(() => this.#catchUp(signal));
  }

  async #catchUp(signal: AbortSignal): Promise<LedgerState> {
    let restarts = 0;
    const restart = async (why: string) => {
      if (restarts === MAX_RESTARTS) throw new DivergedError(why);
      this.#components.log.error({ round: this.#round }, `${why}: going back to what is known`);
      await this.#restart(this.#components.ledger.state, restarts++ === 0, signal);
    };
    for (;;) {
      signal.throwIfAborted();
      const state = this.#components.ledger.state;
      const { round, phase, modelRoot } = state.round;
      const at = this.#round;
      if (at === null) {
        await restart('there are no weights');
        continue;
      }
      const update = state.weightUpdates.find((result) => result.round > at);
      if (update === undefined) {
        // In the aggregation phase the validators have not agreed on a root yet; before and after it they have.
        if (phase === 'aggregate' && at === round) return state;
        if (this.#root !== modelRoot) {
          await restart(`the weights after round ${at} do not have the agreed root`);
          continue;
        }
        this.#round = round - 1;
        await this.#keep(signal);
        return state;
      }
      if (this.#root !== update.modelRootBefore) {
        await restart(`the weights after round ${at} are not those from which round ${update.round} started`);
        continue;
      }
      await this.#keep(signal);
      try {
        await this.#apply(update, signal);
      } catch (error) {
        // Whoever had an old submission may be gone; a checkpoint after it makes it needless.
        const { checkpoint } = this.#components.ledger.state;
        const needless = error instanceof FetchTimeoutError && checkpoint.round >= update.round;
        if (!(needless || error instanceof DivergedError)) throw error;
        await restart(error.message);
      }
    }
  }

  /** Saves weights that were agreed on and are in memory only. */
  async #keep(signal: AbortSignal): Promise<void> {
    if (!this.#unsaved || this.#round === null) return;
    await this.#components.model.save(this.#init.weights.path, this.#round, { signal });
    this.#unsaved = false;
  }

  /**
   * Goes back to weights that are known: with `fromDisk` to the file of weights, if it holds others than the model does;
   * else to the latest checkpoint, or to the initial weights where there is none yet.
   */
  async #restart(state: LedgerState, fromDisk: boolean, signal: AbortSignal): Promise<void> {
    const { blobs, log } = this.#components;
    const { checkpoint } = state;
    if (fromDisk) {
      const before = this.#root;
      if ((await this.#read(signal)) && this.#root !== before) return;
    }
    if (checkpoint.round === 0) {
      await this.#initialize(checkpoint.modelRoot, { signal });
      this.#unsaved = false;
      return;
    }
    await downloadCheckpoint(this.#init.weights, checkpoint, { blobs, log }, { signal });
    if (!(await this.#read(signal))) {
      throw new DivergedError(`the weights in ${this.#init.weights.path} are damaged`);
    }
  }

  /** Reads the file of weights, whatever they are. False where there are none that can be read. */
  async #read(signal: AbortSignal): Promise<boolean> {
    const opened = await this.#components.model.open(this.#init.weights.path, { signal });
    if (opened === undefined) return false;
    // From here on the worker holds them.
    this.#round = opened.round;
    this.#root = parseHash(opened.modelRoot);
    this.#unsaved = false;
    return true;
  }

  async #apply(result: RoundResult, signal: AbortSignal): Promise<void> {
    const { blobs, roundBlobs, model, log } = this.#components;
    const accepted = result.submissions.filter((submission) => submission.accepted);
    for (const { cid } of accepted) roundBlobs.expect(result.round, cid);
    const submissions = await Promise.all(
      accepted.map(async ({ account, cid, provider, score }) => ({
        account,
        weight: score ?? 0n,
        bytes: await blobs.fetch(cid, {
          hints: [provider as PeerIdText],
          maxBytes: this.#init.maxSubmissionBytes,
          timeoutMs: SUBMISSION_TIMEOUT_MS,
          signal,
        }),
      })),
    );
    const identity = { round: result.round, modelRoot: result.modelRootBefore };
    const root = parseHash(await model.aggregate(identity, submissions, { signal }));
    // From here on the worker holds the new weights, whatever else fails.
    this.#round = result.round;
    this.#root = root;
    this.#unsaved = true;
    const now = this.#components.ledger.state.roundResult(result.round);
    if (now?.aggregation === 'updated' && now.modelRootAfter !== root) {
      throw new DivergedError(
        `round ${result.round} gives model root ${root.slice(0, 16)} here, but the validators agreed on ${now.modelRootAfter?.slice(0, 16)}`,
      );
    }
    log.info({ round: result.round, modelRoot: root, submissions: accepted.length }, 'weights updated');
    if (now?.aggregation === 'updated') await this.#keep(signal);
  }

  /** The weights as a blob that others can fetch: stored and announced. Returns its CID. */
  async publish({ signal }: { signal: AbortSignal }): Promise<string> {
    return await this.#inTurn(async () => {
      const { blobs, roundBlobs, model } = this.#components;
      const { weights } = this.#init;
      if (this.#round === null || this.#root === null) throw new DivergedError('there are no weights to publish');
      // The initial weights are not saved, and those that validators have not agreed on are not.
      if (!(await holdsWeights(weights, this.#root))) await model.save(weights.path, this.#round, { signal });
      this.#unsaved = false;
      const cid = await blobs.store.put(checkpointPieces(weights, this.#root), { signal });
      roundBlobs.offer(this.#round, cid, 'checkpoint');
      return cid;
    });
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work);
    this.#turn = turn.catch(() => {});
    return turn;
  }
}
