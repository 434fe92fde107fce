/** Timers of the height that is being decided. They all go when it is over. */
import type { Parameters } from '../chain/parameters.ts';
import type { Clock } from './clock.ts';
import type { TimeoutKind } from './core/state-machine.ts';

/** See the head of this file. */
export class HeightTimers {
  readonly #clock: Clock;
  readonly #parameters: Parameters['consensus'];
  #cancels: (() => void)[] = [];
  #beganMs = 0;

  constructor(clock: Clock, parameters: Parameters['consensus']) {
    this.#clock = clock;
    this.#parameters = parameters;
  }

  /**
   * Begins a height: what was armed for the one before goes. `onInterval` is called when the pause after the last block
   * is over, `onLongest` when a block is due although nothing waits.
   */
  begin(onInterval: () => void, onLongest: () => void): void {
    this.cancel();
    this.#beganMs = this.#clock.nowMs();
    this.#arm(this.#parameters.blockIntervalMs, onInterval);
    this.#arm(this.#parameters.emptyBlockIntervalMs, onLongest);
  }

  /** True when the pause after the last block is over. */
  get intervalOver(): boolean {
    return this.#clock.nowMs() - this.#beganMs >= this.#parameters.blockIntervalMs;
  }

  /** Arms a timeout of a round: the paper's, longer with each round. */
  armRound(kind: TimeoutKind, round: number, callback: () => void): void {
    const { proposeTimeoutMs, prevoteTimeoutMs, precommitTimeoutMs } = this.#parameters;
    const { proposeTimeoutDeltaMs, prevoteTimeoutDeltaMs, precommitTimeoutDeltaMs } = this.#parameters;
    const [baseMs, deltaMs] = {
      propose: [proposeTimeoutMs, proposeTimeoutDeltaMs],
      prevote: [prevoteTimeoutMs, prevoteTimeoutDeltaMs],
      precommit: [precommitTimeoutMs, precommitTimeoutDeltaMs],
    }[kind];
    this.#arm(baseMs + round * deltaMs, callback);
  }

  /** Nothing that was armed happens any more. */
  cancel(): void {
    for (const cancel of this.#cancels) cancel();
    this.#cancels = [];
  }

  #arm(delayMs: number, callback: () => void): void {
    this.#cancels.push(this.#clock.schedule(delayMs, callback));
  }
}
