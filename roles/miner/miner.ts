/**
 * The miner: waits for a seat, trains on the shards that the beacon gives it, and submits what it learned, round after
 * round. Without a seat it does not train: nobody would take what it learned.
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { sampleWindows } from '../../corpus/shard/windows.ts';
import type { ModelClient } from '../../kernels/session/model-client.ts';
import type { BlobExchange } from '../../node/blobs/exchange.ts';
import { blobCid } from '../../node/blobs/manifest.ts';
import { TransactionExpiredError } from '../../node/blockchain/transaction-sender.ts';
import type { AccountId } from '../../node/chain/account.ts';
import { formatAmount } from '../../node/chain/amount.ts';
import { registerMiner, registerWithBond } from '../../node/chain/calls.ts';
import { type Genesis, networkId } from '../../node/chain/genesis.ts';
import { domainHash, type Hash, hashBytes } from '../../node/chain/hash.ts';
import { NO_WORK, type RegistrationWork } from '../../node/chain/registration-work.ts';
import { FIRST_SLOT, isSameSeat, type Seat, seatBytes } from '../../node/chain/seat.ts';
import { type Call, submissionCommitment, taskNonce } from '../../node/chain/transaction.ts';
import { assignedShards } from '../../node/ledger/draw.ts';
import { isEnlisted } from '../../node/ledger/standing.ts';
import type { LedgerState } from '../../node/ledger/state.ts';
import type { Logger } from '../../node/log/logger.ts';
import { TransactionRefusedError } from '../../node/mempool/errors.ts';
import type { PeerIdText } from '../../node/network/interface.ts';
import { solveRegistration } from '../../node/registration/solver.ts';
import { BackgroundDuty } from '../background-duty.ts';
import type { CorpusSource } from '../replica/corpus-source.ts';
import type { ModelReplica } from '../replica/model-replica.ts';
import type { RoundBlobs } from '../replica/round-blobs.ts';
import { type TrainingLedger, untilState, whileState } from '../replica/training-ledger.ts';
import {
  dropPending,
  loadPending,
  loadPendingBytes,
  type PendingSubmission,
  savePending,
} from './pending-submission.ts';

/** Sends a call as a transaction of this account and resolves once it is in a block. Throws when it was refused. */
export type SendCall = (
  call: Call,
  options: { readonly signal: AbortSignal; readonly lifetimeBlocks?: number },
) => Promise<void>;

/** Work to aim at at first, in sixteenths of the price: it may rise by a few registrations until ours is in a block. */
const FIRST_FACTOR = 20n;

/** What is added each time that others did more. */
const FACTOR_STEP = 8n;

/** Blocks in which a registration has to be included; then it is tried with more work. */
const REGISTRATION_BLOCKS = 20;

/** True when a registration was not included, or not taken, because others did more work or the challenge is over. */
function isOutbid(error: unknown): boolean {
  if (error instanceof TransactionExpiredError) return true;
  return (
    error instanceof TransactionRefusedError &&
    (error.code === 'ERR_TOO_LITTLE_WORK' || error.code === 'ERR_OLD_CHALLENGE' || error.code === 'ERR_MEMPOOL_FULL')
  );
}

export interface MinerComponents {
  readonly genesis: Genesis;
  readonly account: AccountId;
  /** This node on the network: where others get its submissions. */
  readonly peerId: PeerIdText;
  readonly ledger: TrainingLedger;
  readonly replica: ModelReplica;
  readonly corpus: CorpusSource;
  readonly model: ModelClient;
  readonly blobs: BlobExchange;
  readonly roundBlobs: RoundBlobs;
  readonly send: SendCall;
  readonly log: Logger;
}

export interface MinerInit {
  /** Folder for what must survive a crash. */
  readonly dir: string;
  /** Free text about the device, registered with the account. */
  readonly device: string;
  /** Tokens of one sequence. */
  readonly context: number;
  /** Tests only: submit noise instead of what was trained. */
  readonly adversary: 'none' | 'noise';
  /** How registrations are paid: `auto` (unless told) holds a bond where the account owns enough; `work` never does. */
  readonly registration?: 'auto' | 'work';
}

/** What the miner is doing, for status pages. */
export interface MinerActivity {
  readonly activity: string;
  readonly tokensPerSecond: number | null;
  readonly trainingLoss: number | null;
}

/** What was trained and not sent yet. */
export const ERROR_FEEDBACK_FILE = 'error-feedback.bin';

/** True while the training phase of the round that `opened` shows goes on. */
const isOpenFor =
  ({ round: { round, beacon } }: LedgerState) =>
  ({ round: open }: LedgerState) =>
    open.round === round && open.beacon === beacon && open.phase === 'train';

export class Miner {
  readonly #init: MinerInit;
  readonly #components: MinerComponents;
  readonly #duty: BackgroundDuty;
  #activity: MinerActivity = { activity: 'starting', tokensPerSecond: null, trainingLoss: null };

  constructor(init: MinerInit, components: MinerComponents) {
    this.#init = init;
    this.#components = components;
    this.#duty = new BackgroundDuty({
      turn: async (signal) => {
        await this.#register(signal);
        await this.#round(signal);
      },
      failure: 'this round failed; trying again',
      log: components.log,
    });
  }

  get #seat(): Seat {
    return { account: this.#components.account, slot: FIRST_SLOT };
  }

  get activity(): MinerActivity {
    return this.#activity;
  }

  /** Starts mining in the background. Failures of single rounds are logged and tried again; they never end the miner. */
  start(): void {
    this.#duty.start();
  }

  /** Ends after the present inner step. */
  stop(): Promise<void> {
    return this.#duty.stop();
  }

  #show(activity: string, more: Partial<MinerActivity> = {}): void {
    this.#activity = { ...this.#activity, ...more, activity };
  }

  async #register(signal: AbortSignal): Promise<void> {
    const { account, ledger, replica, send, log } = this.#components;
    if (isEnlisted(ledger.state, account)) return;
    // First: a seat that it gets while it downloads is one that comes to nothing.
    this.#show('bringing the weights up to date');
    await replica.catchUp({ signal });
    if (this.#init.registration !== 'work') await this.#registerWithBond(signal);
    for (let factor = FIRST_FACTOR; !isEnlisted(ledger.state, account); factor += FACTOR_STEP) {
      const work = await this.#workForRegistration(factor, signal);
      if (work === undefined) continue;
      this.#show('registering');
      try {
        await send(registerMiner(this.#init.device, work), { signal, lifetimeBlocks: REGISTRATION_BLOCKS });
        await untilState(ledger, (state) => isEnlisted(state, account), { signal });
      } catch (error) {
        if (!isOutbid(error)) throw error;
        log.info({ account, work: work.work }, 'others did more work for their registration: doing more');
      }
    }
    log.info({ account }, 'registered as a miner');
  }

  /** Registers with a bond where work would be due and the account owns enough; when others take the room, nothing happens. */
  async #registerWithBond(signal: AbortSignal): Promise<void> {
    const { account, ledger, send, log } = this.#components;
    if (ledger.state.registrationPrice === 0n) return;
    const bond = ledger.state.registrationBondPrice;
    const { balance, locked } = ledger.state.holdings(account);
    if (bond === 0n || balance + locked < bond) return;
    this.#show(`registering with a bond of ${formatAmount(bond, 12)} ALICE`);
    try {
      await send(registerWithBond(this.#init.device), { signal, lifetimeBlocks: REGISTRATION_BLOCKS });
      await untilState(ledger, (state) => isEnlisted(state, account), { signal });
      log.info({ account, bond }, 'a bond is held for the registration; it comes back when that expires');
    } catch (error) {
      if (!(error instanceof TransactionExpiredError || error instanceof TransactionRefusedError)) throw error;
      log.info({ account, bond, err: error }, 'no room for a registration with a bond: proving work');
    }
  }

  /**
   * Work that is worth `factor` sixteenths of the present price, for the newest challenge; undefined when that was over
   * before the work was done. What it takes is not done on the event loop.
   */
  async #workForRegistration(factor: bigint, signal: AbortSignal): Promise<RegistrationWork | undefined> {
    const { account, genesis, ledger } = this.#components;
    if (ledger.state.registrationPrice === 0n) return NO_WORK;
    const challenge = ledger.state.registration.challenges[0]?.beacon;
    if (challenge === undefined) return undefined;
    this.#show('proving work for registration');
    return await whileState(
      ledger,
      ({ registration }) => registration.challenges.some(({ beacon }) => beacon === challenge),
      (open) =>
        solveRegistration({
          networkId: networkId(genesis),
          account,
          challenge,
          wanted: () => (ledger.state.registrationPrice * factor) / 16n + 1n,
          signal: open,
          onProgress: ({ share, secondsLeft }) =>
            this.#show(
              `proving work for registration: ${Math.floor(share * 100)} %, about ${Math.ceil(secondsLeft)} s left`,
            ),
        }),
      { signal },
    );
  }

  /** What there is to do at present, or how long the line before it is. */
  #showLine({ round }: LedgerState, ahead: number | undefined): void {
    if (ahead !== undefined) this.#show(`registered; waiting for a seat (at most ${ahead} before it)`);
    else this.#show(`waiting for a round (${round.phase} of round ${round.round})`);
  }

  /** One round: train, commit, reveal, wait for the next. */
  async #round(signal: AbortSignal): Promise<void> {
    const { account, ledger, replica, log } = this.#components;
    const own = (state: LedgerState) => state.round.submissions.find((other) => isSameSeat(other, this.#seat));
    const isAsked = (state: LedgerState) =>
      !isEnlisted(state, account) ||
      (state.round.phase === 'train' && state.round.seats.some((seat) => isSameSeat(seat, this.#seat))) ||
      (state.round.phase === 'reveal' && own(state) !== undefined && own(state)?.reveal === undefined);
    // Who waits for a seat keeps up with the weights: it would lose its first seat to the rounds that it had missed.
    const isBehind = ({ round: { round, phase } }: LedgerState) =>
      phase === 'train' && (replica.round ?? 0) < round - 1;
    let opened: LedgerState;
    for (;;) {
      opened = await untilState(
        ledger,
        (state) => {
          this.#showLine(state, state.aheadInLine(account));
          return isAsked(state) || isBehind(state);
        },
        { signal },
      );
      if (isAsked(opened)) break;
      await replica.catchUp({ signal });
    }
    // Too many of its seats came to nothing: it has to register again.
    if (!isEnlisted(opened, account)) return;
    let pending = await loadPending(this.#init.dir);
    if (pending !== undefined && (pending.round !== opened.round.round || pending.beacon !== opened.round.beacon)) {
      await dropPending(this.#init.dir);
      pending = undefined;
    }
    if (own(opened) === undefined) {
      if (pending === undefined) {
        this.#show('bringing the weights up to date');
        const caughtUp = await replica.catchUp({ signal });
        if (caughtUp.round.round !== opened.round.round || caughtUp.round.beacon !== opened.round.beacon) return;
        // A shard that nobody serves, or a slow machine, must not cost the rounds after this one.
        pending = await whileState(ledger, isOpenFor(opened), (open) => this.#train(caughtUp, open), {
          signal,
        });
        if (pending === undefined) {
          log.warn({ round: opened.round.round }, 'the round closed before this submission was ready');
          return;
        }
      }
      if (!(await this.#commit(pending, opened, signal))) return;
    }
    if (pending !== undefined) await this.#reveal(pending, opened, signal);
    this.#show('waiting for scores');
    await untilState(
      ledger,
      (state) => state.round.round !== opened.round.round || state.round.beacon !== opened.round.beacon,
      { signal },
    );
    await dropPending(this.#init.dir);
    this.#report(opened.round.round);
  }

  /**
   * Trains the assigned shards and keeps the submission, out of others' reach until the reveal. `open` ends the part that
   * can be given up; what was compressed has left the error feedback and is kept in any case.
   */
  async #train(state: LedgerState, open: AbortSignal): Promise<PendingSubmission> {
    const { account, genesis, corpus, model, log } = this.#components;
    const { round, beacon, modelRoot } = state.round;
    const { training, rounds } = genesis.parameters;
    this.#show(`round ${round}: fetching shards`);
    const indices = assignedShards(beacon, this.#seat, genesis.corpus.trainingShards, rounds.shardsPerMiner);
    const shards = await Promise.all(indices.map((index) => corpus.shard('training', index, { signal: open })));
    const tokens = sampleWindows(shards, {
      seed: hashBytes(domainHash('alice/training-windows/1', hashBytes(beacon), seatBytes(this.#seat))),
      count: training.maxInnerSteps * training.batchSequences,
      context: this.#init.context,
    });
    const warmth = training.warmupRounds === 0 ? 1 : Math.min(1, round / training.warmupRounds);
    const outcome = await model.train(
      { tokens, learningRate: training.innerLearningRate * warmth },
      {
        signal: open,
        onStep: ({ step, loss, tokensPerSecond }) =>
          this.#show(`round ${round}: inner step ${step}`, { trainingLoss: loss, tokensPerSecond }),
      },
    );
    if (this.#init.adversary === 'noise') await model.pretend(round);
    this.#show(`round ${round}: compressing`, { tokensPerSecond: outcome.tokensPerSecond });
    const bytes = await model.compress(
      { round, author: account, modelRoot },
      join(this.#init.dir, ERROR_FEEDBACK_FILE),
    );
    // The CID stays out of the log: until the reveal it is the author's alone.
    log.info({ round, steps: outcome.losses.length, loss: outcome.losses.at(-1), sizeBytes: bytes.length }, 'trained');
    const salt = randomBytes(32).toString('hex');
    const pending = { round, beacon, cid: blobCid(bytes), sizeBytes: bytes.length, salt };
    await savePending(this.#init.dir, pending, bytes);
    return pending;
  }

  /** Commits. False when the round closed without this submission. */
  async #commit(pending: PendingSubmission, opened: LedgerState, signal: AbortSignal): Promise<boolean> {
    const { ledger, send, log } = this.#components;
    const { round, attempt, modelRoot } = opened.round;
    const beacon = pending.beacon as Hash;
    const salt = new Uint8Array(Buffer.from(pending.salt, 'hex'));
    this.#show(`round ${round}: committing`);
    if (!isOpenFor(opened)(ledger.state)) {
      log.warn({ round }, 'the round closed before this submission was ready');
      return false;
    }
    const commitment = submissionCommitment({
      cid: pending.cid,
      seat: this.#seat,
      nonce: taskNonce(beacon, this.#seat),
      modelRoot,
      salt,
    });
    await send({ tag: 'commitSubmission', value: { round, attempt, slot: this.#seat.slot, commitment } }, { signal });
    return true;
  }

  /** Opens the commitment once the round asks for it. */
  async #reveal(pending: PendingSubmission, opened: LedgerState, signal: AbortSignal): Promise<void> {
    const { peerId, ledger, send, log } = this.#components;
    const { round } = opened.round;
    this.#show(`round ${round}: waiting to reveal`);
    const state = await untilState(
      ledger,
      (next) => next.round.round !== round || next.round.phase !== 'train' || next.round.beacon !== pending.beacon,
      { signal },
    );
    if (state.round.round !== round || state.round.phase !== 'reveal') {
      log.warn({ round, phase: state.round.phase }, 'too late to reveal');
      return;
    }
    // Commits are closed: from here on it cannot be copied. Others come for it as soon as the reveal is in a block.
    if (!(await this.#publish(pending, signal))) return;
    if (state.round.submissions.find((other) => isSameSeat(other, this.#seat))?.reveal !== undefined) return;
    const { cid, sizeBytes } = pending;
    const salt = new Uint8Array(Buffer.from(pending.salt, 'hex'));
    await send(
      { tag: 'revealSubmission', value: { round, slot: this.#seat.slot, cid, sizeBytes, salt, provider: peerId } },
      { signal },
    );
  }

  /** Serves and announces the submission from now on. False when the disk did not keep it. */
  async #publish(pending: PendingSubmission, signal: AbortSignal): Promise<boolean> {
    const { blobs, roundBlobs, log } = this.#components;
    const { round, cid, sizeBytes } = pending;
    if (!blobs.store.has(cid)) {
      const bytes = await loadPendingBytes(this.#init.dir, pending);
      if (bytes === undefined) {
        log.error({ round }, 'the committed submission is lost or damaged on disk: it cannot be revealed');
        return false;
      }
      roundBlobs.expect(round, cid);
      await blobs.store.put(bytes, { signal });
    }
    roundBlobs.offer(round, cid);
    log.info({ round, sizeBytes, cid }, 'revealing');
    return true;
  }

  #report(round: number): void {
    const { ledger, log } = this.#components;
    const result = ledger.state.roundResult(round);
    const own = result?.submissions.find((other) => isSameSeat(other, this.#seat));
    if (own === undefined) return;
    log.info(
      {
        round,
        accepted: own.accepted,
        reason: own.reason,
        score: own.score === undefined ? null : Number(own.score) / 1e9,
      },
      own.accepted ? 'submission accepted' : 'submission rejected',
    );
  }
}
