/**
 * The model replica: weights that follow the ledger.
 *
 * Round by round it applies the accepted submissions and compares the root of the result with the one the ledger
 * recorded. It starts from what is on disk, else from the seed in genesis, else from the latest checkpoint; a replica
 * that ends up with another root throws its weights away and starts again from a checkpoint.
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
import { DivergedError, MissingHistoryError } from './errors.ts';
import type { RoundBlobs } from './round-blobs.ts';
import type { TrainingLedger } from './training-ledger.ts';

/** Longest download of a submission before the ledger is looked at again: there may be a checkpoint by now. */
const SUBMISSION_TIMEOUT_MS = 60_000;

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
    let restarted = false;
    for (;;) {
      signal.throwIfAborted();
      const state = this.#components.ledger.state;
      const target = state.round.phase === 'aggregate' ? state.round.round : state.round.round - 1;
      if (this.#round === target) {
        // In the aggregation phase the validators have not agreed on a root yet; before and after it they have.
        if (state.round.phase === 'aggregate' || this.#root === state.round.modelRoot) return state;
        if (restarted) throw new DivergedError(`the weights after round ${target} do not have the agreed root`);
        this.#components.log.error({ round: target }, 'the weights do not have the agreed root: taking a checkpoint');
        restarted = true;
        await this.#restart(state, signal);
        continue;
      }
      if (this.#round === null || this.#round > target) {
        // Weights ahead of the ledger: this node's chain was reset, or its folder mixed up. Start from a known point.
        await this.#restart(state, signal);
        continue;
      }
      const result = state.roundResult(this.#round + 1);
      if (result === undefined) {
        if (state.checkpoint.round <= this.#round) {
          throw new MissingHistoryError(
            `round ${this.#round + 1} is not in the ledger any more and the latest checkpoint is of round ${state.checkpoint.round}`,
          );
        }
        await this.#restart(state, signal);
        continue;
      }
      try {
        await this.#apply(result, signal);
      } catch (error) {
        // Whoever had an old submission may be gone; a checkpoint after it makes it needless.
        const { checkpoint } = this.#components.ledger.state;
        const needless = error instanceof FetchTimeoutError && checkpoint.round >= result.round;
        if (restarted || !(needless || error instanceof DivergedError)) throw error;
        this.#components.log.error({ round: result.round }, error.message);
        restarted = true;
        await this.#restart(this.#components.ledger.state, signal);
      }
    }
  }

  /** Takes the latest checkpoint as weights, or the initial weights where there is none yet. */
  async #restart(state: LedgerState, signal: AbortSignal): Promise<void> {
    const { blobs, model, log } = this.#components;
    const { checkpoint } = state;
    if (checkpoint.round === 0) {
      await this.#initialize(checkpoint.modelRoot, { signal });
      return;
    }
    await downloadCheckpoint(this.#init.weights, checkpoint, { blobs, log }, { signal });
    const opened = await model.open(this.#init.weights.path, { signal });
    if (opened === undefined) throw new DivergedError(`the weights in ${this.#init.weights.path} are damaged`);
    // From here on the worker holds them, whatever they are.
    this.#round = opened.round;
    this.#root = parseHash(opened.modelRoot);
  }

  async #apply(result: RoundResult, signal: AbortSignal): Promise<void> {
    const { blobs, roundBlobs, model, log } = this.#components;
    const accepted = result.submissions.filter((submission) => submission.accepted);
    for (const { cid } of accepted) roundBlobs.expect(result.round, cid);
    if (accepted.length > 0) {
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
      const agreed = this.#components.ledger.state.roundResult(result.round)?.modelRootAfter;
      if (agreed !== undefined && agreed !== root) {
        this.#round = null;
        throw new DivergedError(
          `round ${result.round} gives model root ${root.slice(0, 16)} here, but the validators agreed on ${agreed.slice(0, 16)}`,
        );
      }
      await model.save(this.#init.weights.path, result.round);
      log.info({ round: result.round, modelRoot: root, submissions: accepted.length }, 'weights updated');
    } else {
      this.#round = result.round;
    }
  }

  /** The weights as a blob that others can fetch: stored and announced. Returns its CID. */
  async publish({ signal }: { signal: AbortSignal }): Promise<string> {
    return await this.#inTurn(async () => {
      const { blobs, roundBlobs, model } = this.#components;
      const { weights } = this.#init;
      if (this.#round === null || this.#root === null) throw new DivergedError('there are no weights to publish');
      // A round without accepted submissions is not saved, and the initial weights are not.
      if (!(await holdsWeights(weights, this.#root))) await model.save(weights.path, this.#round, { signal });
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
