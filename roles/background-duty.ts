/** What a role does over and over in the background, until it is stopped. */
import type { Logger } from '../node/log/logger.ts';
import { pause } from './pause.ts';

/** Pause after a turn that failed for a reason outside (a blob nobody serves, say), before the next. */
const RETRY_DELAY_MS = 1000;

export interface BackgroundDutyInit {
  /** One turn; ends early, and may throw, once the signal is aborted. */
  readonly turn: (signal: AbortSignal) => Promise<void>;
  /** What is logged of a turn that failed. */
  readonly failure: string;
  readonly log: Logger;
}

/** See the file comment. Failures of turns are logged and tried again; they never end the duty. */
export class BackgroundDuty {
  readonly #init: BackgroundDutyInit;
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;

  constructor(init: BackgroundDutyInit) {
    this.#init = init;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** Aborts the present turn and waits for its end. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    const { turn, failure, log } = this.#init;
    while (!signal.aborted) {
      try {
        await turn(signal);
      } catch (error) {
        if (signal.aborted) return;
        log.warn({ error: (error as Error).message }, failure);
        await pause(RETRY_DELAY_MS, signal);
      }
    }
  }
}
