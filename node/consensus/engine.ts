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
  encodeBlock,
  encodeProposal,
  encodeVote,
  type Proposal,
  VOTE_TYPES,
  type Vote,
} from '../chain/block.ts';
import type { Hash } from '../chain/hash.ts';
import type { Parameters } from '../chain/parameters.ts';
import type { ValidatorSet } from '../chain/validator-set.ts';
import type { AccountSigner, SessionSigner } from '../identity/signatures.ts';
import type { Application, FinalizedBlock } from './application.ts';
import { BlockExecution } from './block-execution.ts';
import type { Clock } from './clock.ts';
import { advance, type DriverEffect, type DriverInput, type DriverState, newHeight } from './core/driver.ts';
import { proposerOfRound, startPriorities } from './core/proposer.ts';
import { NO_ROUND, type TimeoutKind } from './core/state-machine.ts';
import { skipTarget } from './core/vote-keeper.ts';
import { HeightBlocks } from './height-blocks.ts';
import { Lane } from './lane.ts';
import type { Logger } from './logger.ts';
import { ProposerSchedule } from './proposer-schedule.ts';
import { logCovers, replayLog } from './replay.ts';
import { SignerGuard } from './signer-guard.ts';
import type { Directory } from './storage.ts';
import { WAL_TIMEOUTS, type WalRecord, WriteAheadLog } from './write-ahead-log.ts';

/** Keys of a validator. */
export interface ConsensusSigner {
  readonly account: AccountSigner;
  readonly session: SessionSigner;
}

export interface EngineInit {
  /** 8-byte id of the genesis. */
  readonly networkId: Uint8Array;
  readonly parameters: Parameters['consensus'];
  /** Absent: an observer, which follows and signs nothing. */
  readonly signer?: ConsensusSigner | undefined;
  /** Where log and signer guard live. Never share it between two running nodes. */
  readonly directory: Directory;
}

export interface EngineComponents {
  readonly application: Application;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Sends to all peers; must not throw. */
  publish(topic: 'proposals' | 'votes', data: Uint8Array): void;
}

export interface EngineEvents {
  /** A block is final and durable. */
  finalized(finalized: FinalizedBlock): void;
  /** A validator signed two different votes. */
  evidence(first: Vote, second: Vote): void;
  /** A new height or a new round. */
  progress(height: number, round: number): void;
}

/** Proposals whose blocks are being executed at the same time; more are dropped and come again by catch-up. */
const MAX_VALIDATING = 8;
/** Own messages kept for rebroadcast: those of the last rounds. */
const REBROADCAST_ROUNDS = 2;
/** Pause before a failed write of log or block is tried again: the disk may be full for a while. */
const STORAGE_RETRY_MS = 1000;

type LoggedInput = WalRecord['input'];
interface QueuedInput {
  readonly height: number;
  readonly input: DriverInput;
  /** Absent where a replay would find the same by itself. */
  readonly record: LoggedInput | undefined;
}
interface Outgoing {
  readonly topic: 'proposals' | 'votes';
  readonly round: number;
  readonly data: Uint8Array;
}
type Decision = Extract<DriverEffect, { type: 'decide' }>;

/**
 * Thrown when the application refuses a block whose header a quorum signed: its body is not the one that belongs to the
 * header, or this node's state has gone astray.
 */
export class BlockRefusedError extends Error {
  static readonly code = 'ERR_BLOCK_REFUSED';
  readonly code = BlockRefusedError.code;
  override readonly name = 'BlockRefusedError';
}

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
  #validators: ValidatorSet = [];
  #core: DriverState = newHeight(0, [], startPriorities([]), undefined);
  #knowsProposers = false;
  #queue: QueuedInput[] = [];
  /** Keys of the votes in the queue. */
  #queuedVotes = new Set<string>();
  #replayed: DriverEffect[] = [];
  readonly #blocks = new HeightBlocks();
  #validating = new Set<string>();
  #own: Outgoing[] = [];
  #cancels: (() => void)[] = [];
  #unsubscribeWork: (() => void) | undefined;

  constructor(init: EngineInit, components: EngineComponents, events: EngineEvents) {
    this.#init = init;
    this.#components = components;
    this.#events = events;
    this.#schedule = new ProposerSchedule(components.application);
    this.#execution = new BlockExecution(components.application, components.clock, init.networkId);
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
  get validators(): ValidatorSet {
    return this.#validators;
  }

  /** Whose turn a round of this height is. Undefined where this node cannot know. Bound the round before asking. */
  proposerOf(round: number): AccountId | undefined {
    return this.#knowsProposers ? proposerOfRound(this.#core.proposers, round) : undefined;
  }

  /** Opens log and guard, replays, and begins. Throws when the files cannot be opened. */
  async start(): Promise<void> {
    const { directory, networkId, signer } = this.#init;
    const { application, logger } = this.#components;
    let records: WalRecord[] = [];
    if (signer !== undefined) {
      this.#guard = await SignerGuard.open(directory, networkId, signer.session);
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
    this.#cancelTimers();
    this.#queue = [];
    this.#execution.enterHeight(0);
    await this.#execution.idle();
    await this.#main.idle();
    await this.#wal?.close();
    await this.#guard?.close();
  }

  /** True while an equal vote waits for its turn. */
  isQueued(vote: Vote): boolean {
    return this.#queuedVotes.has(voteKey(vote));
  }

  /** Takes a vote of this height with a checked signature. */
  submitVote(vote: Vote): void {
    if (this.#running && vote.body.height === this.#height) this.#queuedVotes.add(voteKey(vote));
    this.#enqueue(vote.body.height, { type: 'vote', vote }, { tag: 'vote', value: encodeVote(vote) });
  }

  /**
   * Takes an authentic proposal of this height by the proposer of its round, with its decoded block, whose id it names.
   * The block is executed in the background.
   */
  submitProposal(proposal: Proposal, block: Block): void {
    const { height, round, blockId: value, validRound } = proposal.body;
    const key = `${round}/${value}`;
    if (height !== this.#height || this.#validating.has(key) || this.#validating.size >= MAX_VALIDATING) return;
    const { clock, logger } = this.#components;
    const timely = block.header.timeMs <= BigInt(Math.floor(clock.nowMs()) + this.#init.parameters.clockDriftMs);
    this.#validating.add(key);
    void this.#execution
      .verdict(height, block, proposal.block)
      .then((verdict) => {
        if (verdict === undefined || height !== this.#height) return;
        if (!verdict.valid) logger.warn({ height, round, reason: verdict.reason }, 'consensus: invalid proposal');
        if (!timely) logger.warn({ height, round }, 'consensus: the time of the proposed block is too far ahead');
        if (verdict.valid) this.#blocks.keepProposal(proposal, block);
        this.#enqueue(
          height,
          { type: 'proposal', proposal: { round, value, validRound, valid: verdict.valid, timely } },
          { tag: 'proposal', value: { bytes: encodeProposal(proposal), valid: verdict.valid, timely } },
        );
        // A proposal means that the height has begun for others.
        this.#enqueueStart();
      })
      .catch((error: unknown) => logger.error({ error: String(error), height }, 'consensus: a block was not executed'))
      .finally(() => this.#validating.delete(key));
  }

  /**
   * Makes a block of a peer final. The commit must have been verified. Resolves with `false` when the block is not for
   * the height that is being decided (any more). Throws {@link BlockRefusedError}.
   */
  applyFinalized(finalized: FinalizedBlock): Promise<boolean> {
    return this.#main.run(async () => {
      const { height } = finalized.block.header;
      if (!this.#running || height !== this.#height) return false;
      const verdict = await this.#execution.verdict(height, finalized.block, encodeBlock(finalized.block));
      if (verdict === undefined) return false;
      if (!verdict.valid) throw new BlockRefusedError(`block ${height} has a quorum, but: ${verdict.reason}`);
      await this.#commit(finalized);
      return true;
    });
  }

  /** Sends this node's messages of the last rounds again. */
  rebroadcast(): void {
    const oldest = this.#core.machine.round - REBROADCAST_ROUNDS + 1;
    for (const { topic, round, data } of this.#own) if (round >= oldest) this.#components.publish(topic, data);
  }

  /** A valid proposal of this height as it goes over the wire. */
  encodedProposal(round: number, value: Hash): Uint8Array | undefined {
    return this.#blocks.encodedProposal(round, value);
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
    const { application, clock, logger } = this.#components;
    this.#cancelTimers();
    this.#height = height;
    this.#execution.enterHeight(height);
    this.#queue = [];
    this.#queuedVotes.clear();
    this.#blocks.clear();
    this.#own = [];
    this.#validators = application.validators(height) ?? [];
    const proposers = this.#schedule.at(height);
    this.#knowsProposers = proposers !== undefined;
    if (proposers === undefined)
      logger.warn(
        { height },
        'consensus: earlier validator sets are not known; this node only follows until it can tell whose turn it is',
      );
    const votes = mayVote && proposers !== undefined;
    this.#core = newHeight(
      height,
      this.#validators,
      proposers ?? startPriorities(this.#validators),
      votes ? this.#account : undefined,
    );
    this.#enteredMs = clock.nowMs();
    this.#arm(this.#init.parameters.blockIntervalMs, () => this.#startWhenDue());
    this.#arm(this.#init.parameters.emptyBlockIntervalMs, () => this.#enqueueStart());
    this.#events.progress(height, this.#core.machine.round);
  }

  #enteredMs = 0;

  /** Begins the height when there is work and the pause after the last block is over. */
  #startWhenDue(): void {
    const { application, clock } = this.#components;
    const waitedMs = clock.nowMs() - this.#enteredMs;
    if (waitedMs >= this.#init.parameters.blockIntervalMs && application.hasWork()) this.#enqueueStart();
  }

  #enqueueStart(): void {
    if (this.#core.machine.round < 0 && this.#knowsProposers)
      this.#enqueue(this.#height, { type: 'start' }, { tag: 'start', value: undefined });
  }

  #enqueue(height: number, input: DriverInput, record: LoggedInput | undefined): void {
    if (!this.#running || height !== this.#height) return;
    this.#queue.push({ height, input, record });
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
        if (next.input.type === 'vote') this.#queuedVotes.delete(voteKey(next.input.vote));
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
        this.#own.push(...outgoing);
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
          void this.#buildValue(height, effect.round);
          break;
        case 'propose':
          this.#propose(effect.round, effect.value, effect.validRound, own, outgoing);
          break;
        case 'vote':
          this.#vote(effect, own, outgoing);
          break;
        case 'scheduleTimeout': {
          const { kind, round } = effect;
          this.#arm(this.#timeoutMs(kind, round), () =>
            this.#enqueue(
              height,
              { type: 'timeout', kind, round },
              { tag: 'timeout', value: { kind: WAL_TIMEOUTS.indexOf(kind), round } },
            ),
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
          this.#notify(() => this.#events.evidence(effect.first, effect.second));
          break;
        case 'decide':
          decision = effect;
          break;
      }
    }
    return decision;
  }

  #timeoutMs(kind: TimeoutKind, round: number): number {
    const { parameters } = this.#init;
    if (kind === 'propose') return parameters.proposeTimeoutMs + round * parameters.proposeTimeoutDeltaMs;
    if (kind === 'prevote') return parameters.prevoteTimeoutMs + round * parameters.prevoteTimeoutDeltaMs;
    return parameters.precommitTimeoutMs + round * parameters.precommitTimeoutDeltaMs;
  }

  #vote(effect: Extract<DriverEffect, { type: 'vote' }>, own: QueuedInput[], outgoing: Outgoing[]): void {
    if (this.#guard === undefined || this.#account === undefined) return;
    const type = VOTE_TYPES.indexOf(effect.vote);
    const body = { type, height: this.#height, round: effect.round, blockId: effect.value };
    try {
      const vote: Vote = { body, validator: this.#account, signature: this.#guard.signVote(body) };
      const data = encodeVote(vote);
      own.push({ height: body.height, input: { type: 'vote', vote }, record: { tag: 'vote', value: data } });
      outgoing.push({ topic: 'votes', round: effect.round, data });
    } catch (error) {
      this.#components.logger.error({ error: String(error) }, 'consensus: the signer guard refused a vote');
    }
  }

  #propose(round: number, value: Hash, validRound: number, own: QueuedInput[], outgoing: Outgoing[]): void {
    const known = this.#blocks.block(value);
    if (this.#guard === undefined || this.#account === undefined || known === undefined) return;
    const body = { height: this.#height, round, validRound, blockId: value };
    try {
      const signature = this.#guard.signProposal(body);
      const proposal: Proposal = { body, proposer: this.#account, signature, block: known.encoded };
      const data = encodeProposal(proposal);
      this.#blocks.keepProposal(proposal, known.block);
      own.push({
        height: body.height,
        input: { type: 'proposal', proposal: { round, value, validRound, valid: true, timely: true } },
        record: { tag: 'proposal', value: { bytes: data, valid: true, timely: true } },
      });
      outgoing.push({ topic: 'proposals', round, data });
    } catch (error) {
      this.#components.logger.error({ error: String(error) }, 'consensus: the signer guard refused a proposal');
    }
  }

  async #buildValue(height: number, round: number): Promise<void> {
    const { signer } = this.#init;
    if (signer === undefined) return;
    try {
      const built = await this.#execution.build(height, signer.account, () => round === this.#core.machine.round);
      if (built === undefined) return;
      this.#blocks.keepBlock(built.id, built);
      this.#enqueue(height, { type: 'value', round, value: built.id }, undefined);
    } catch (error) {
      this.#components.logger.error({ error: String(error), height, round }, 'consensus: no block could be built');
    }
  }

  async #commit(finalized: FinalizedBlock): Promise<void> {
    const { application } = this.#components;
    const { height } = finalized.block.header;
    await this.#persistently('block', () => this.#execution.commit(finalized));
    if (!this.#running) return;
    await this.#persistently('write-ahead log', async () => this.#wal?.reset());
    if (!this.#running) return;
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

  /** Tries until it works or the engine stops: without its disk a validator must stand still, not go on. */
  async #persistently(what: string, write: () => Promise<void>): Promise<void> {
    while (this.#running) {
      try {
        await write();
        return;
      } catch (error) {
        this.#components.logger.error({ error: String(error), what }, 'consensus: a write failed; trying again');
        await new Promise<void>((resolve) => this.#components.clock.schedule(STORAGE_RETRY_MS, resolve));
      }
    }
  }

  #arm(delayMs: number, callback: () => void): void {
    this.#cancels.push(this.#components.clock.schedule(delayMs, callback));
  }

  #cancelTimers(): void {
    for (const cancel of this.#cancels) cancel();
    this.#cancels = [];
  }

  /** Goes on where the log ends. What the core asked for and did not get is done afterwards. */
  #replay(records: readonly WalRecord[]): void {
    const { core, open, own, proposals } = replayLog(this.#core, records, this.#account);
    this.#core = core;
    this.#replayed = [...open];
    for (const proposal of proposals) this.#blocks.keepProposal(proposal, decodeBlock(proposal.block));
    for (const message of own) {
      if ('vote' in message) {
        const { body, signature } = message.vote;
        this.#guard?.observe('vote', body, signature);
        this.#own.push({ topic: 'votes', round: body.round, data: encodeVote(message.vote) });
      } else {
        const { body, signature } = message.proposal;
        this.#guard?.observe('proposal', body, signature);
        this.#own.push({ topic: 'proposals', round: body.round, data: message.encoded });
      }
    }
    const { round, step } = core.machine;
    const fields = { height: this.#height, round, step, records: records.length };
    this.#components.logger.info(fields, 'consensus: replayed the write-ahead log');
    this.#events.progress(this.#height, round);
  }
}

function voteKey({ body, validator }: Vote): string {
  return `${body.type}/${body.round}/${validator}/${body.blockId}`;
}

function commitOf(height: number, decision: Decision): Commit {
  return {
    height,
    round: decision.round,
    blockId: decision.value,
    signatures: decision.precommits.map(({ validator, signature }) => ({ validator, signature })),
  };
}
