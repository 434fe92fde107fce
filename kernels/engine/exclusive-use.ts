/** The use of an engine: one call at a time, and none after its end. */
import { EngineBusyError, EngineClosedError } from './engine.ts';

/** See the file comment. */
export class ExclusiveUse {
  #busy = false;
  #ended = false;

  /** Makes a call. Throws {@link EngineBusyError} during another one, {@link EngineClosedError} after {@link end}. */
  async call<T>(body: () => Promise<T>): Promise<T> {
    this.requireOpen();
    if (this.#busy) throw new EngineBusyError('the engine runs another call');
    this.#busy = true;
    try {
      return await body();
    } finally {
      this.#busy = false;
    }
  }

  /** Throws {@link EngineClosedError} after {@link end}. */
  requireOpen(): void {
    if (this.#ended) throw new EngineClosedError('the engine is closed');
  }

  /** Ends the use; false if it had ended already. Throws {@link EngineBusyError} during a call. */
  end(): boolean {
    if (this.#ended) return false;
    if (this.#busy) throw new EngineBusyError('close() while a call is running');
    this.#ended = true;
    return true;
  }
}
