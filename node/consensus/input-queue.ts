/** Inputs of the height that is being decided, in the order in which the core takes them. */
import type { Vote } from '../chain/block.ts';
import type { DriverInput } from './core/driver.ts';
import type { WalRecord } from './write-ahead-log.ts';

/** An input that waits for its turn. */
export interface QueuedInput {
  readonly height: number;
  readonly input: DriverInput;
  /** Absent where a replay would find the same by itself. */
  readonly record: WalRecord['input'] | undefined;
}

/** See the head of this file. Bounded by ingress, which asks the core and this queue what is still wanted. */
export class InputQueue {
  #inputs: QueuedInput[] = [];
  /** Keys of the votes among them. */
  readonly #votes = new Set<string>();

  get length(): number {
    return this.#inputs.length;
  }

  /** True while an equal vote waits for its turn. */
  holds(vote: Vote): boolean {
    return this.#votes.has(voteKey(vote));
  }

  push(queued: QueuedInput): void {
    this.#inputs.push(queued);
    if (queued.input.type === 'vote') this.#votes.add(voteKey(queued.input.vote));
  }

  shift(): QueuedInput | undefined {
    const next = this.#inputs.shift();
    if (next?.input.type === 'vote') this.#votes.delete(voteKey(next.input.vote));
    return next;
  }

  clear(): void {
    this.#inputs = [];
    this.#votes.clear();
  }
}

function voteKey({ body, validator }: Vote): string {
  return `${body.height}/${body.type}/${body.round}/${validator}/${body.blockId}`;
}
