/** What a model session offers, and what goes in and out of it. */
import type { Backend, TrainingPrecision } from '../engine/backend.ts';
import type { Device } from '../engine/device/device.ts';
import type { EngineCallOptions } from '../engine/engine.ts';
import type { MemoryPlan } from '../engine/memory-plan.ts';
import type { ValueBits } from '../gradient/quantize.ts';
import type { Preset } from '../model/preset.ts';
import type { InnerStepProgress } from '../train/inner-steps.ts';
import type { ScoringOutcome } from './scoring.ts';

/** The network's recipe, as genesis fixes it. */
export interface TrainingRecipe {
  /** Sequences whose mean gradient makes one inner step. */
  readonly batchSequences: number;
  /** Inner steps that are taken even when the time is over. */
  readonly minInnerSteps: number;
  /** Most inner steps in a round. Bounds the values of submissions; what is trained is for the caller to say. */
  readonly maxInnerSteps: number;
  /** Learning rate of inner steps after the warm-up. Bounds the values of submissions. */
  readonly innerLearningRate: number;
  /** Time after which no further inner step begins. */
  readonly trainTargetMs: number;
  /** Of AdamW. */
  readonly weightDecay: number;
  /** Factor on the aggregate when it is subtracted from the weights. */
  readonly outerStep: number;
  /** Share of the outer step at which a submission is tried when it is scored. */
  readonly scoringStepShare: number;
  /** Factor on the error feedback of earlier rounds. */
  readonly errorFeedbackDecay: number;
  /** Elements sent of each chunk of 4096. */
  readonly topK: number;
  /** Bits of a sent value. */
  readonly valueBits: ValueBits;
}

/** What a session is made for. Structured-cloneable. */
export interface ModelSessionInit {
  readonly preset: Preset;
  readonly recipe: TrainingRecipe;
  /** Threads for computing, at least 1. */
  readonly threads: number;
  /** What computes losses and gradients; all that is attested is computed by neither. Default `onnx`. */
  readonly backend?: Backend;
  /** Where it computes. Default `cpu`, the only one of the native backend. */
  readonly device?: Device;
  /** Of training; scoring is always fp32. Default `fp32`. Weights that are streamed from disk are trained in fp32. */
  readonly precision?: TrainingPrecision;
  /** Most memory for the model's process. Default: no limit, what is fastest. */
  readonly memoryBytes?: number;
  /**
   * Folder for the model where it has to be streamed from disk: made, emptied at the beginning and deleted at the end,
   * on the file system of the files that are saved. Without one the weights are in memory or there is no session.
   */
  readonly streamFolder?: string;
}

/** How far scoring is: layers and heads gone through, of all that will be. */
export interface ScoringProgress {
  readonly done: number;
  readonly parts: number;
}

/** Options of `ModelSession.score`. */
export interface ScoringOptions extends EngineCallOptions {
  readonly onPart?: (progress: ScoringProgress) => void;
}

/** A submission as it came from its author. */
export interface EncodedSubmission {
  /** 64 lower-case hex characters. */
  readonly account: string;
  /** AGF1 bytes, not yet checked. */
  readonly bytes: Uint8Array;
}

/** A submission that was accepted. */
export interface AcceptedSubmission extends EncodedSubmission {
  /** Its score, in the ledger's unit; not negative. */
  readonly weight: bigint;
}

/** The round that submissions must be for. */
export interface RoundIdentity {
  readonly round: number;
  /** Root of the weights from which the round started. */
  readonly modelRoot: string;
}

/** Which weights a file held. */
export interface OpenedWeights {
  /** Training round after which they are the weights. */
  readonly round: number;
  readonly modelRoot: string;
}

/** What `ModelSession.train` works on. */
export interface TrainingWork {
  /** `[steps * batchSequences, context + 1]` token ids. */
  readonly tokens: Int32Array;
  /** Learning rate of every step. */
  readonly learningRate: number;
}

/** Result of `ModelSession.train`. */
export interface TrainingOutcome {
  /** Loss before each step that was taken, nats. */
  readonly losses: readonly number[];
  readonly tokensPerSecond: number;
}

/** What `ModelSession.score` works on. */
export interface ScoringWork {
  /** `[sequences, context + 1]` token ids. */
  readonly tokens: Int32Array;
  /** How many of the sequences, from the first, come from the held-out set. At least 1. */
  readonly heldOutSequences: number;
  readonly submissions: readonly EncodedSubmission[];
  /** For each submission, whether its author has accepted work: these set the norm to which all are clipped. Default: none. */
  readonly proven?: readonly boolean[];
}

/** What a session may answer at once or later. A call that is done when it returns cannot be aborted. */
type Answer<T> = T | Promise<T>;

/**
 * One model at work in a role: the weights, what is trained from them, what was not sent yet, and how others' submissions
 * are scored and aggregated. One call at a time; `model-client.ts` hosts it in a thread of its own, and
 * `create-session.ts` makes the one that fits into the memory.
 */
export interface ModelSession {
  /** Hash that this session's submissions and files carry. */
  readonly presetHash: string;
  /** How the model is run, and what that takes. */
  readonly memory: MemoryPlan;

  /** Takes the random initialization of a 32-byte seed as weights; returns their root. Throws InvalidSeedError. */
  initialize(seed: Uint8Array, options?: EngineCallOptions): Answer<string>;

  /** Takes weights as little-endian float32 bytes; returns their root. Throws WeightsSizeError, NonFiniteError. */
  load(bytes: Uint8Array, options?: EngineCallOptions): Answer<string>;

  /** Copy of the weights as little-endian float32 bytes. Throws SessionStateError. */
  weights(options?: EngineCallOptions): Answer<Uint8Array<ArrayBuffer>>;

  /**
   * Reads weights that {@link save} wrote. Undefined, with the weights as they were, when there are none, or they are
   * damaged or another model's: they can be had from the network again.
   */
  open(path: string, options?: EngineCallOptions): Promise<OpenedWeights | undefined>;

  /** Writes the weights durably, as those after `round`. Throws SessionStateError, errors of the file system. */
  save(path: string, round: number, options?: EngineCallOptions): Promise<void>;

  /**
   * Applies a round's accepted submissions, weighted by score; returns the new root. Throws, with the weights
   * unchanged, when one of them is malformed, two are of one account, or it is aborted. Well-formed ones never make it
   * throw, whatever their values: see `applyUpdate`.
   */
  aggregate(
    round: RoundIdentity,
    submissions: readonly AcceptedSubmission[],
    options?: EngineCallOptions,
  ): Answer<string>;

  /**
   * Takes inner steps from the present weights, which stay as they are, until the tokens are used up or the recipe's
   * time is over. The pseudo-gradient waits for {@link compress}; one of before is dropped, also when this call fails
   * or is aborted.
   */
  train(
    work: TrainingWork,
    options?: EngineCallOptions & { readonly onStep?: (progress: InnerStepProgress) => void },
  ): Promise<TrainingOutcome>;

  /** Tests only: takes noise from a seed for the pseudo-gradient, as a cheat that did not train would. */
  pretend(seed: number): Answer<void>;

  /**
   * Encodes the last pseudo-gradient plus error feedback as AGF1; what is not sent stays in the error feedback. Writes
   * the error feedback durably first, so that a crash later never sends the same twice. When that fails, nothing has
   * changed and the call can be repeated.
   *
   * Throws SessionStateError when nothing was trained, or it was from other weights than the round's; what
   * `compressUpdate` throws; errors of the file system.
   */
  compress(
    round: RoundIdentity & { readonly author: string },
    feedbackPath: string,
    options?: EngineCallOptions,
  ): Promise<Uint8Array>;

  /** Reads error feedback that {@link compress} wrote; starts from zero where there is none that fits. */
  openErrorFeedback(path: string, options?: EngineCallOptions): Promise<void>;

  /**
   * What each submission gains, tried one by one from the present weights, which are put back bit for bit: see
   * `scoreCandidates`. A submission that does not decode, or is not for this round, is malformed.
   */
  score(round: RoundIdentity, work: ScoringWork, options?: ScoringOptions): Promise<ScoringOutcome>;

  /** Frees the engine, and deletes what belongs to the session alone. */
  close(): Promise<void>;
}
