/**
 * The host of the core: one height after the other, it feeds checked messages and timeouts to the driver, logs them,
 * signs, and makes decided blocks final. It owns the order of things:
 *
 *   input -> log -> core -> own messages -> sync of log and signer guard -> out to the network -> commit
 *
 * Messages come here from `ingress.ts`, finalized blocks of peers from `block-sync.ts`.
 */
import type { AccountId } from '../chain/account.ts';
import {
  type Block,
  type Commit,
  decodeBlock,
  encodeVote,
  type Proposal,
  VOTE_TYPES,
  type Vote,
} from '../chain/block.ts';
import { equivocationEvidence } from '../chain/evidence.ts';
import type { Hash } from '../chain/hash.ts';
import type { FinalizedBlock } from './application.ts';
import { BlockExecution } from './block-execution.ts';
import { BlockWork } from './block-work.ts';
import { advance, type DriverEffect, type DriverState, isProposalWanted, newHeight } from './core/driver.ts';
import { startPriorities } from './core/proposer.ts';
import { NO_ROUND } from './core/state-machine.ts';
import { hasSupport, skipTarget } from './core/vote-keeper.ts';
import { Deciders } from './deciders.ts';
import { BlockRefusedError, type EngineComponents, type EngineEvents, type EngineInit } from './engine-parts.ts';
import { HeightBlocks } from './height-blocks.ts';
import { HeightTimers } from './height-timers.ts';
import { InputQueue, type QueuedInput } from './input-queue.ts';
import { Lane } from './lane.ts';
import { LateVotes } from './late-votes.ts';
import { type Outgoing, type OwnMessage, OwnMessages } from './own-messages.ts';
import { persistently } from './persistence.ts';
import { ProposerSchedule } from './proposer-schedule.ts';
import { logCovers, replayLog } from './replay.ts';
import { SignerGuard } from './signer-guard.ts';
import { WAL_TIMEOUTS, type WalRecord, WriteAheadLog } from './write-ahead-log.ts';

type Decision = Extract<DriverEffect, { type: 'decide' }>;

/** See the head of this file. */
export class Engine {
  readonly #init: EngineInit;
  readonly #components: EngineComponents;
  readonly #events: EngineEvents;
  readonly #schedule: ProposerSchedule;
  readonly #account: AccountId | undefined;
  /** The height's own order of things. */
  readonly #main = new Lane();
  readonly #execution: BlockExecution;

  #wal: WriteAheadLog | undefined;
  #guard: SignerGuard | undefined;
  #running = false;
  #draining = false;

  #height = 0;
  #deciders = new Deciders(0, [], undefined);
  #nextDeciders: Deciders | undefined;
  #core: DriverState = newHeight(0, [], startPriorities([]), undefined);
  #knowsProposers = false;
  readonly #queue = new InputQueue();
  #replayed: DriverEffect[] = [];
  readonly #blocks = new HeightBlocks();
  readonly #work: BlockWork;
  /** Absent in an observer. */
  #own: OwnMessages | undefined;
  readonly #timers: HeightTimers;
  /** Votes of heights that are over. */
  readonly late = new LateVotes();
  #unsubscribeWork: (() => void) | undefined;

  constructor(init: EngineInit, components: EngineComponents, events: EngineEvents) {
    this.#init = init;
    this.#components = components;
    this.#events = events;
    this.#schedule = new ProposerSchedule(components.application);
    this.#execution = new BlockExecution(components.application, components.clock, init.networkId);
    this.#timers = new HeightTimers(components.clock, init.parameters);
    this.#work = new BlockWork({
      execution: this.#execution,
      blocks: this.#blocks,
      clock: components.clock,
      logger: components.logger,
      clockDriftMs: init.parameters.clockDriftMs,
      height: () => this.#height,
      evidence: () => components.evidence(),
      enqueue: (queued) => this.#enqueue(queued),
    });
    this.#account = init.signer?.account.account;
  }

  /** Height that is being decided. */
  get height(): number {
    return this.#height;
  }

  /** The core's state of this height; read only. */
  get core(): DriverState {
    return this.#core;
  }

  /** Those who decide this height. */
  get deciders(): Deciders {
    return this.#deciders;
  }

  /** Those who decide the height after this one; undefined where they are not known. */
  get nextDeciders(): Deciders | undefined {
    return this.#nextDeciders;
  }

  /** Opens log and guard, replays, and begins. Throws when the files cannot be opened. */
  async start(): Promise<void> {
    const { directory, networkId, signer } = this.#init;
    const { application, logger } = this.#components;
    let records: WalRecord[] = [];
    if (signer !== undefined) {
      this.#guard = await SignerGuard.open(directory, networkId, signer.session);
      this.#own = new OwnMessages(signer.account.account, this.#guard);
      ({ wal: this.#wal, records } = await WriteAheadLog.open(directory, logger));
    }
    this.#running = true;
    const current = records.filter(({ height }) => height === application.height + 1);
    if (current.length < records.length && current.length === 0) await this.#wal?.reset();
    this.#enterHeight(application.height + 1, this.#mayVote(application.height + 1, current));
    if (current.length > 0) this.#replay(current);
    this.#unsubscribeWork = application.onWork(() => this.#startWhenDue());
    this.#wake();
  }

  /** Stops timers, lets running work end, closes the files. */
  async stop(): Promise<void> {
    if (!this.#running) return;
    this.#running = false;
    this.#unsubscribeWork?.();
    this.#timers.cancel();
    this.#queue.clear();
    this.#execution.enterHeight(0);
    await this.#execution.idle();
    await this.#main.idle();
    await this.#wal?.close();
    await this.#guard?.close();
  }

  /** True while an equal vote waits for its turn. */
  isQueued(vote: Vote): boolean {
    return this.#queue.holds(vote);
  }

  /** Takes a vote of this height with a checked signature. */
  submitVote(vote: Vote): void {
    const record: QueuedInput['record'] = { tag: 'vote', value: encodeVote(vote) };
    this.#enqueue({ height: vote.body.height, input: { type: 'vote', vote }, record });
  }

  /**
   * True when a proposal of this height would be executed and kept: worth the check of a signature and of its block. Of
   * several blocks for one round, which only its proposer can sign, one is executed, and then those that votes ask for.
   */
  wantsProposal(round: number, id: Hash): boolean {
    if (!isProposalWanted(this.#core, round, id)) return false;
    const underWay = this.#work.underWay(round);
    return underWay.length === 0 || (!underWay.includes(id) && hasSupport(this.#core.votes, round, id));
  }

  /**
   * Takes an authentic proposal of this height by the proposer of its round, with its decoded block, whose id it names.
   * The block is executed in the background.
   */
  submitProposal(proposal: Proposal, block: Block): void {
    if (proposal.body.height === this.#height) this.#work.validate(proposal, block);
  }

  /**
   * Makes a block of a peer final. The commit must have been verified, and that the body is the header's. Resolves with
   * `false` when the block is not for the height that is being decided (any more). Throws {@link BlockRefusedError}.
   */
  applyFinalized(finalized: FinalizedBlock): Promise<boolean> {
    return this.#main.run(async () => {
      const { height } = finalized.block.header;
      if (!this.#running || height !== this.#height) return false;
      const verdict = await this.#execution.verdict(height, finalized.block);
      if (verdict === undefined) return false;
      if (!verdict.valid) throw new BlockRefusedError(`block ${height} has a quorum, but: ${verdict.reason}`);
      await this.#commit(finalized);
      return true;
    });
  }

  /** Sends this node's messages of the last rounds again. */
  rebroadcast(): void {
    for (const { topic, data } of this.#own?.recent(this.#core.machine.round) ?? [])
      this.#components.publish(topic, data);
  }

  /** A valid proposal of this height as it goes over the wire, once it may: see {@link Engine.mayTell}. */
  encodedProposal(round: number, value: Hash): Uint8Array | undefined {
    const own = this.#account !== undefined && this.#deciders.proposerOf(round) === this.#account;
    return own && !this.#own?.hasLeft('proposal', round) ? undefined : this.#blocks.encodedProposal(round, value);
  }

  /**
   * False for a vote of this node's own that is not on disk yet. The core knows it already; were it told to a peer that
   * asks, a crash could make this node forget it and sign another.
   */
  mayTell({ validator, body }: Vote): boolean {
    return validator !== this.#account || this.#own?.hasLeft(VOTE_TYPES[body.type], body.round) === true;
  }

  // --- one height ---------------------------------------------------------------------------------------------------

  /** False when the guard has signed what the log of this height does not know: the lock may be lost with it. */
  #mayVote(height: number, records: readonly WalRecord[]): boolean {
    const last = this.#guard?.last;
    if (last === undefined || last.height < height) return true;
    const covered = logCovers(records, this.#account, last);
    if (!covered) {
      this.#components.logger.error(
        { height, signedHeight: last.height, signedRound: last.round },
        'consensus: the write-ahead log lacks what was signed; this node does not vote before that height is over',
      );
    }
    return covered;
  }

  #enterHeight(height: number, mayVote: boolean): void {
    const { application, logger } = this.#components;
    if (this.#height > 0) this.late.remember(this.#height, this.#core.votes, this.#deciders.validators);
    this.#height = height;
    this.#execution.enterHeight(height);
    this.#queue.clear();
    this.#blocks.clear();
    this.#own?.clear();
    const validators = application.validators(height) ?? [];
    const proposers = this.#schedule.at(height);
    this.#deciders = new Deciders(height, validators, proposers);
    const next = application.validators(height + 1);
    this.#nextDeciders = next && new Deciders(height + 1, next, this.#schedule.after(height));
    this.#knowsProposers = proposers !== undefined;
    if (proposers === undefined)
      logger.warn(
        { height },
        'consensus: earlier validator sets are not known; this node only follows until it can tell whose turn it is',
      );
    const votes = mayVote && proposers !== undefined;
    this.#core = newHeight(
      height,
      validators,
      proposers ?? startPriorities(validators),
      votes ? this.#account : undefined,
    );
    this.#timers.begin(
      () => this.#startWhenDue(),
      () => this.#enqueueStart(),
    );
    this.#events.progress(height, this.#core.machine.round);
  }

  /** Begins the height when there is work and the pause after the last block is over. */
  #startWhenDue(): void {
    if (this.#timers.intervalOver && this.#components.application.hasWork()) this.#enqueueStart();
  }

  #enqueueStart(): void {
    if (this.#core.machine.round < 0 && this.#knowsProposers)
      this.#enqueue({ height: this.#height, input: { type: 'start' }, record: { tag: 'start', value: undefined } });
  }

  #enqueue(queued: QueuedInput): void {
    if (!this.#running || queued.height !== this.#height) return;
    this.#queue.push(queued);
    // A proposal means that the height has begun for others.
    if (queued.input.type === 'proposal') this.#enqueueStart();
    this.#wake();
  }

  #wake(): void {
    if (this.#draining) return;
    this.#draining = true;
    this.#main
      .run(async () => {
        this.#draining = false;
        await this.#drain();
      })
      .catch((error: unknown) => {
        // A fault of this program: the input that met it is gone, the node goes on with the next.
        this.#components.logger.error({ error: String(error), height: this.#height }, 'consensus: an input failed');
      });
  }

  async #drain(): Promise<void> {
    const { logger } = this.#components;
    while (this.#running && (this.#queue.length > 0 || this.#replayed.length > 0)) {
      const own: QueuedInput[] = [];
      const outgoing: Outgoing[] = [];
      let decision = this.#perform(this.#replayed.splice(0), own, outgoing);
      while (decision === undefined) {
        const next = own.shift() ?? this.#queue.shift();
        if (next === undefined) break;
        if (next.height !== this.#height) continue;
        // Who does not vote at this height has no promise to remember.
        if (next.record !== undefined && this.#core.self !== undefined)
          this.#wal?.append({ height: next.height, input: next.record });
        const { state, effects } = advance(this.#core, next.input);
        this.#core = state;
        decision = this.#perform(effects, own, outgoing);
        // Where an honest validator votes, the height has begun.
        if (state.machine.round < 0 && skipTarget(state.votes, NO_ROUND) !== undefined) this.#enqueueStart();
      }
      if (outgoing.length > 0) {
        // The log first: a signature that the guard knows and the log does not would mean a lost lock.
        await this.#persistently('write-ahead log', async () => this.#wal?.sync());
        await this.#persistently('signer guard', async () => this.#guard?.persist());
        if (!this.#running) return;
        this.#own?.sent(outgoing);
        for (const { topic, data } of outgoing) this.#components.publish(topic, data);
      }
      if (decision !== undefined) {
        const block = this.#blocks.block(decision.value)?.block;
        if (block === undefined) logger.error({ height: this.#height }, 'consensus: a decided block is missing');
        else await this.#commit({ block, commit: commitOf(this.#height, decision) });
      }
    }
  }

  /** Does what the core asks for. Own messages go to `own` as inputs and to `outgoing`; a decision is returned. */
  #perform(effects: readonly DriverEffect[], own: QueuedInput[], outgoing: Outgoing[]): Decision | undefined {
    const height = this.#height;
    let decision: Decision | undefined;
    for (const effect of effects) {
      switch (effect.type) {
        case 'getValue':
          this.#buildValue(effect.round);
          break;
        case 'propose':
          this.#say(() => this.#proposal(effect), own, outgoing);
          break;
        case 'vote':
          this.#say(() => this.#own?.vote(height, effect), own, outgoing);
          break;
        case 'scheduleTimeout': {
          const { kind, round } = effect;
          this.#timers.armRound(kind, round, () =>
            this.#enqueue({
              height,
              input: { type: 'timeout', kind, round },
              record: { tag: 'timeout', value: { kind: WAL_TIMEOUTS.indexOf(kind), round } },
            }),
          );
          break;
        }
        case 'roundStarted':
          if (effect.round > 0) {
            const { locked, valid } = this.#core.machine;
            const fields = { height, round: effect.round, lockedRound: locked?.round, validRound: valid?.round };
            this.#components.logger.info(fields, 'consensus: new round');
          }
          this.#blocks.forgetOld(this.#core);
          this.#events.progress(height, effect.round);
          break;
        case 'evidence':
          this.#notify(() =>
            this.#events.evidence(equivocationEvidence(effect.first, effect.second, this.#deciders.validators)),
          );
          break;
        case 'decide':
          decision = effect;
          break;
      }
    }
    return decision;
  }

  #buildValue(round: number): void {
    const { signer } = this.#init;
    if (signer !== undefined)
      void this.#work.build(this.#height, round, signer.account, () => round === this.#core.machine.round);
  }

  /** Signs, unless the guard refuses: then nothing is said. */
  #say(sign: () => OwnMessage | undefined, own: QueuedInput[], outgoing: Outgoing[]): void {
    try {
      const message = sign();
      if (message === undefined) return;
      own.push(message.queued);
      outgoing.push(message.outgoing);
    } catch (error) {
      this.#components.logger.error({ error: String(error) }, 'consensus: the signer guard refused to sign');
    }
  }

  #proposal(effect: Extract<DriverEffect, { type: 'propose' }>): OwnMessage | undefined {
    const known = this.#blocks.block(effect.value);
    const message = known && this.#own?.proposal(this.#height, effect, known);
    if (known && message) this.#blocks.keepProposal(message.proposal, known.block);
    return message;
  }

  async #commit(finalized: FinalizedBlock): Promise<void> {
    const { application } = this.#components;
    const { height } = finalized.block.header;
    if (!(await this.#persistently('block', () => this.#execution.commit(finalized)))) return;
    if (!(await this.#persistently('write-ahead log', async () => this.#wal?.reset()))) return;
    const last = this.#guard?.last;
    this.#enterHeight(application.height + 1, last === undefined || last.height <= height);
    this.#notify(() => this.#events.finalized(finalized));
  }

  /** Listeners are of other parts of the node; their faults are not to stop agreement. */
  #notify(call: () => void): void {
    try {
      call();
    } catch (error) {
      this.#components.logger.error({ error: String(error) }, 'consensus: a listener failed');
    }
  }

  /** Resolves with `false` when the engine was stopped. */
  #persistently(what: string, write: () => Promise<void>): Promise<boolean> {
    const { clock, logger } = this.#components;
    return persistently(what, write, { clock, logger, running: () => this.#running });
  }

  /** Goes on where the log ends. What the core asked for and did not get is done afterwards. */
  #replay(records: readonly WalRecord[]): void {
    const { core, open, own, proposals } = replayLog(this.#core, records, this.#account);
    this.#core = core;
    this.#replayed = [...open];
    for (const proposal of proposals) this.#blocks.keepProposal(proposal, decodeBlock(proposal.block));
    this.#own?.restore(own);
    const { round, step } = core.machine;
    const fields = { height: this.#height, round, step, records: records.length };
    this.#components.logger.info(fields, 'consensus: replayed the write-ahead log');
    this.#events.progress(this.#height, round);
  }
}

function commitOf(height: number, decision: Decision): Commit {
  return {
    height,
    round: decision.round,
    blockId: decision.value,
    signatures: decision.precommits.map(({ validator, signature }) => ({ validator, signature })),
  };
}
