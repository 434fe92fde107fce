/** Failures of a model session and of the thread that hosts it. */

/** Thrown when a call needs something that was not done before it. */
export class SessionStateError extends Error {
  static readonly code = 'ERR_SESSION_STATE';
  readonly code = SessionStateError.code;
  override readonly name = 'SessionStateError';
}

/** Thrown when downloaded weights do not have the length of the model. */
export class WeightsSizeError extends Error {
  static readonly code = 'ERR_WEIGHTS_SIZE';
  readonly code = WeightsSizeError.code;
  override readonly name = 'WeightsSizeError';
}

/** Thrown when a disk has too little room for streaming. */
export class DiskSpaceError extends Error {
  static readonly code = 'ERR_DISK_SPACE';
  readonly code = DiskSpaceError.code;
  override readonly name = 'DiskSpaceError';
}

/** An error in the form in which it crosses threads, where classes are lost. */
export interface ErrorMessage {
  readonly name: string;
  readonly message: string;
  /** The `code` of the error's class, or 'ERR_UNKNOWN'. */
  readonly code: string;
  readonly stack: string;
}

/** An error in its crossing form. */
export function errorMessage(error: unknown): ErrorMessage {
  if (!(error instanceof Error)) return { name: 'Error', message: String(error), code: 'ERR_UNKNOWN', stack: '' };
  const code = 'code' in error && typeof error.code === 'string' ? error.code : 'ERR_UNKNOWN';
  return { name: error.name, message: error.message, code, stack: error.stack ?? '' };
}

/** Thrown when a job fails in the thread, or the model cannot be set up there. Carries the original's name and code. */
export class ModelJobError extends Error {
  /** The `code` of the original error's class. */
  readonly code: string;
  /** Name of the original error's class. */
  readonly originalName: string;
  override readonly name = 'ModelJobError';

  constructor({ name, message, code, stack }: ErrorMessage) {
    super(message);
    this.originalName = name;
    this.code = code;
    this.stack = `${this.name}: ${message}\n  in the model's thread: ${stack}`;
  }
}

/** Thrown by jobs that were pending when the thread ended or was closed, and by jobs after that. */
export class ModelWorkerExitedError extends Error {
  static readonly code = 'ERR_MODEL_WORKER_EXITED';
  readonly code = ModelWorkerExitedError.code;
  override readonly name = 'ModelWorkerExitedError';
}

/** Thrown when too many jobs wait. */
export class ModelWorkerBusyError extends Error {
  static readonly code = 'ERR_MODEL_WORKER_BUSY';
  readonly code = ModelWorkerBusyError.code;
  override readonly name = 'ModelWorkerBusyError';
}
