/**
 * The validator's scoring duty: measure each submission of a round on data drawn after the reveal, commit to the
 * scores, reveal them, compute the new weights and attest their root. Voting on blocks is the node's own business.
 */
import { randomBytes } from 'node:crypto';
import type { ModelClient } from '../../kernels/session/model-client.ts';
import type { SubmissionScore } from '../../kernels/session/scoring.ts';
import type { BlobExchange } from '../../node/blobs/exchange.ts';
import type { AccountId } from '../../node/chain/account.ts';
import type { Genesis } from '../../node/chain/genesis.ts';
import type { Hash } from '../../node/chain/hash.ts';
import { type Call, scoresCommitment, type Verdict } from '../../node/chain/transaction.ts';
import { type ScoringSequence, scoringDraw } from '../../node/ledger/draw.ts';
import type { SubmissionRecord } from '../../node/ledger/round-records.ts';
import type { LedgerState, RoundView } from '../../node/ledger/state.ts';
import type { Logger } from '../../node/log/logger.ts';
import { BackgroundDuty } from '../background-duty.ts';
import type { CorpusSource } from '../replica/corpus-source.ts';
import type { ModelReplica } from '../replica/model-replica.ts';
import type { RoundBlobs } from '../replica/round-blobs.ts';
import { type TrainingLedger, untilState, whileState } from '../replica/training-ledger.ts';
import { loadScores, type PendingScores, saveScores } from './pending-scores.ts';
import { type FetchAllOptions, type FetchedSubmission, SubmissionFetcher } from './submission-fetcher.ts';

export interface ValidatorComponents {
  readonly genesis: Genesis;
  readonly account: AccountId;
  readonly ledger: TrainingLedger;
  readonly replica: ModelReplica;
  readonly corpus: CorpusSource;
  readonly model: ModelClient;
  readonly blobs: BlobExchange;
  readonly roundBlobs: RoundBlobs;
  /** Sends a call as a transaction of this account; resolves once it is in a block, throws when it was refused. */
  readonly send: (call: Call, options: { signal: AbortSignal }) => Promise<void>;
  readonly log: Logger;
}

export interface ValidatorInit {
  /** Folder for what must survive a crash. */
  readonly dir: string;
  /** Tokens of one sequence. */
  readonly context: number;
  /** Largest submission that is fetched at all. */
  readonly maxSubmissionBytes: number;
}

/** What the validator is doing, for status pages. */
export interface ValidatorActivity {
  readonly activity: string;
  readonly tokensPerSecond: number | null;
}

/** Scores are integers of 10^-9 nat, so that a gain of 0.001 keeps six digits. */
const NANO = 1e9;
/** Share of the scoring deadline that fetching one submission may take before it counts as unavailable. */
const FETCH_SHARE = 0.4;

/**
 * Most by which the loss on the drawn held-out sequences may rise in a round for new weights to be attested, in nats.
 * Submissions are scored one by one and at a fifth of the outer step, so some can gain there and wreck the model where they
 * are applied in full. Far above what honest rounds do on the same sequences, far below what the model could not train off again.
 */
const MAX_LOSS_RISE = 0.5;

const toNano = (nats: number) => BigInt(Math.round(nats * NANO));

const verdict = (score: SubmissionScore): Verdict =>
  score.kind === 'scored' ? { tag: 'scored', value: toNano(score.gain) } : { tag: 'malformed', value: undefined };

export class Validator {
  readonly #init: ValidatorInit;
  readonly #components: ValidatorComponents;
  readonly #background: BackgroundDuty;
  readonly #fetcher: SubmissionFetcher;
  /** The last weights that were looked at before attesting. */
  #examined: { readonly round: number; readonly root: Hash; readonly sound: boolean } | undefined;
  #activity: ValidatorActivity = { activity: 'starting', tokensPerSecond: null };

  constructor(init: ValidatorInit, components: ValidatorComponents) {
    this.#init = init;
    this.#components = components;
    const { ledger, log } = components;
    this.#background = new BackgroundDuty({
      turn: async (signal) => {
        const state = ledger.state;
        await this.#duty(state, signal);
        await untilState(ledger, (next) => next.height > state.height, { signal });
      },
      failure: 'scoring failed; trying again',
      log,
    });
    this.#fetcher = new SubmissionFetcher(components.blobs, components.log, init.maxSubmissionBytes);
  }

  get activity(): ValidatorActivity {
    return this.#activity;
  }

  /** Starts scoring in the background. Failures are logged and tried again; they never end the validator. */
  start(): void {
    this.#background.start();
  }

  stop(): Promise<void> {
    return this.#background.stop();
  }

  #show(activity: string, tokensPerSecond = this.#activity.tokensPerSecond): void {
    this.#activity = { activity, tokensPerSecond };
  }

  /** Does what the open round asks of this validator now, if anything. */
  async #duty(state: LedgerState, signal: AbortSignal): Promise<void> {
    const { account } = this.#components;
    if (!state.nextValidators.some((validator) => validator.account === account)) {
      // A stake makes it one, and the loss of it ends that: the weights are kept up with for the day it matters.
      await this.#components.replica.catchUp({ signal });
      this.#show('following: this account is no validator now (see "alice stake show")');
      return;
    }
    switch (state.round.phase) {
      case 'train':
        await this.#components.replica.catchUp({ signal });
        this.#show('waiting for submissions');
        return;
      case 'reveal':
        this.#show('fetching submissions');
        // Ahead of time, and no longer than there is: a blob that nobody serves must not take from the time for scoring.
        await whileState(
          this.#components.ledger,
          ({ round }) => round.round === state.round.round && round.phase === 'reveal',
          (open) => this.#fetchAll(state.round, state.round.submissions, { early: true, signal: open }),
          { signal },
        );
        return;
      case 'score':
        if (!state.round.scorers.includes(account)) await this.#score(state, signal);
        return;
      case 'scoreReveal':
        if (state.round.scorers.includes(account) && !state.round.revealedScorers.includes(account)) {
          await this.#reveal(state, signal);
        }
        return;
      case 'aggregate':
        await this.#attest(signal);
        return;
    }
  }

  /** Seated accounts with accepted work. */
  #provenIn({ seats }: Pick<RoundView, 'seats'>): ReadonlySet<AccountId> {
    return new Set(seats.filter((seat) => seat.proven).map(({ account }) => account));
  }

  /** Bytes of each revealed submission, or undefined where nobody delivered them in time. */
  async #fetchAll(
    { round, seats }: Pick<RoundView, 'round' | 'seats'>,
    submissions: readonly SubmissionRecord[],
    options: Omit<FetchAllOptions, 'limitMs' | 'proven'>,
  ): Promise<(FetchedSubmission | undefined)[]> {
    const { roundBlobs, genesis } = this.#components;
    const limitMs = genesis.parameters.rounds.scoreDeadlineMs * FETCH_SHARE;
    for (const { reveal } of submissions) if (reveal !== undefined) roundBlobs.expect(round, reveal.cid);
    const proven = this.#provenIn({ seats });
    const fetched = await this.#fetcher.fetchAll(submissions, { ...options, limitMs, proven });
    // The author may leave; those who catch up later need it all the same.
    for (const [i, submission] of fetched.entries()) {
      const cid = submissions[i]?.reveal?.cid;
      if (submission !== undefined && cid !== undefined) roundBlobs.offer(round, cid);
    }
    return fetched;
  }

  async #score(state: LedgerState, signal: AbortSignal): Promise<void> {
    const { account, send, log } = this.#components;
    const { round } = state.round;
    const drawBeacon = state.round.drawBeacon;
    if (drawBeacon === undefined) return;
    let pending = await loadScores(this.#init.dir);
    if (pending === undefined || pending.round !== round || pending.drawBeacon !== drawBeacon) {
      pending = await this.#measure(state, drawBeacon, signal);
      await saveScores(this.#init.dir, pending);
    }
    const commitment = scoresCommitment({ ...pending, validator: account });
    const current = this.#components.ledger.state.round;
    if (current.round !== round || current.phase !== 'score') {
      log.warn({ round }, 'scoring took longer than the round waited');
      return;
    }
    this.#show(`round ${round}: committing scores`);
    await send({ tag: 'commitScores', value: { round, commitment } }, { signal });
  }

  async #measure(
    state: LedgerState,
    drawBeacon: NonNullable<RoundView['drawBeacon']>,
    signal: AbortSignal,
  ): Promise<PendingScores> {
    const { replica, model, log } = this.#components;
    const { round, modelRoot } = state.round;
    await replica.catchUp({ signal });
    if (replica.root !== modelRoot) throw new Error(`the weights are not those of round ${round}`);
    this.#show(`round ${round}: fetching submissions`);
    const revealed = state.round.submissions.filter(({ reveal }) => reveal !== undefined);
    const fetched = await this.#fetchAll(state.round, revealed, { signal });
    const draw = this.#draw(state, drawBeacon);
    const tokens = await this.#sequences(draw, signal);
    this.#show(`round ${round}: scoring ${revealed.length} submissions`);
    const isTooLarge = (reveal: SubmissionRecord['reveal']) =>
      reveal !== undefined && reveal.sizeBytes > this.#init.maxSubmissionBytes;
    const proven = this.#provenIn(state.round);
    const present = fetched.flatMap((submission) => (submission === undefined ? [] : [submission]));
    const startedMs = performance.now();
    const outcome = await model.score(
      { round, modelRoot },
      {
        tokens,
        heldOutSequences: draw.filter(({ source }) => source === 'heldOut').length,
        submissions: present,
        proven: present.map((submission) => proven.has(submission.account)),
      },
      {
        signal,
        onPart: ({ done, parts }) =>
          this.#show(`round ${round}: scoring ${revealed.length} submissions, ${Math.floor((100 * done) / parts)} %`),
      },
    );
    let next = 0;
    const verdicts = revealed.map(({ reveal }, index): Verdict => {
      if (fetched[index] !== undefined) return verdict(outcome.scores[next++]);
      return { tag: isTooLarge(reveal) ? 'malformed' : 'unavailable', value: undefined };
    });
    this.#show(`round ${round}: scored`, outcome.tokensPerSecond);
    log.info(
      { round, heldOutLoss: outcome.heldOutLoss, milliseconds: Math.round(performance.now() - startedMs) },
      'scored the round',
    );
    return {
      round,
      drawBeacon,
      salt: new Uint8Array(randomBytes(32)),
      heldOutLoss: toNano(outcome.heldOutLoss),
      scores: revealed.map(({ account: miner, slot }, index) => ({ miner, slot, verdict: verdicts[index] })),
    };
  }

  /** Tokens of the drawn sequences, row-major [sequences, context + 1]. */
  async #sequences(draw: readonly ScoringSequence[], signal: AbortSignal): Promise<Int32Array> {
    const width = this.#init.context + 1;
    const tokens = new Int32Array(draw.length * width);
    for (const [row, { source, shard: index, offsetSeed }] of draw.entries()) {
      const { tokens: shardTokens } = await this.#components.corpus.shard(source, index, { signal });
      const start = offsetSeed % (shardTokens.length - width + 1);
      tokens.set(shardTokens.subarray(start, start + width), row * width);
    }
    return tokens;
  }

  async #reveal(state: LedgerState, signal: AbortSignal): Promise<void> {
    const { send, log } = this.#components;
    const { round } = state.round;
    const pending = await loadScores(this.#init.dir);
    if (pending === undefined || pending.round !== round || pending.drawBeacon !== state.round.drawBeacon) {
      log.error({ round }, 'the committed scores are lost: they cannot be revealed');
      return;
    }
    const { salt, heldOutLoss, scores } = pending;
    this.#show(`round ${round}: revealing scores`);
    await send({ tag: 'revealScores', value: { round, salt, heldOutLoss, scores } }, { signal });
  }

  /** Computes the weights after the round and states their root. */
  async #attest(signal: AbortSignal): Promise<void> {
    const { account, replica, send } = this.#components;
    this.#show('computing the new weights');
    const state = await replica.catchUp({ signal });
    if (state.round.phase !== 'aggregate' || replica.root === null) return;
    const { round, attestations, checkpointDue } = state.round;
    const own = attestations.find(({ validator }) => validator === account);
    if (own?.modelRoot === replica.root) return;
    if (!(await this.#isSound(state, replica.root, signal))) {
      this.#show(`round ${round}: the new weights are worse than those before; not attesting them`);
      return;
    }
    const checkpoint = checkpointDue ? await replica.publish({ signal }) : '';
    this.#show(`round ${round}: attesting the new weights`);
    await send({ tag: 'attestModel', value: { round, modelRoot: replica.root, checkpoint } }, { signal });
  }
  /**
   * False where the new weights, which the model holds, are so much worse than those before that the round had better fail.
   * Measured on the held-out sequences of this validator's own draw, on which it measured the weights before.
   */
  async #isSound(state: LedgerState, root: Hash, signal: AbortSignal): Promise<boolean> {
    const { model, log } = this.#components;
    const { round, drawBeacon, modelRoot } = state.round;
    if (this.#examined?.round === round && this.#examined.root === root) return this.#examined.sound;
    if (drawBeacon === undefined) return true;
    const pending = await loadScores(this.#init.dir);
    const isOwn = pending?.round === round && pending.drawBeacon === drawBeacon;
    const before = isOwn ? pending.heldOutLoss : state.roundResult(round)?.heldOutLoss;
    if (before === undefined) return true;
    this.#show(`round ${round}: measuring the new weights`);
    const heldOut = this.#draw(state, drawBeacon).filter(({ source }) => source === 'heldOut');
    const work = { tokens: await this.#sequences(heldOut, signal), heldOutSequences: heldOut.length, submissions: [] };
    const { heldOutLoss } = await model.score({ round, modelRoot }, work, { signal });
    const sound = toNano(heldOutLoss) <= before + toNano(MAX_LOSS_RISE);
    if (!sound)
      log.error({ round, heldOutLoss, before: Number(before) / NANO }, 'the new weights are refused: they are worse');
    this.#examined = { round, root, sound };
    return sound;
  }

  /** What this validator scores the open round on. */
  #draw(state: LedgerState, drawBeacon: Hash): ScoringSequence[] {
    const { account, genesis } = this.#components;
    return scoringDraw(drawBeacon, account, {
      heldOutShards: genesis.corpus.heldOutShards,
      unassigned: state.unassignedShards,
      sequences: genesis.parameters.rounds.scoringSequences,
    });
  }
}
