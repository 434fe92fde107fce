/** Runs asynchronous tasks one after the other, in the order in which they came. */
export class Lane {
  #tail: Promise<void> = Promise.resolve();

  /** Resolves or rejects as the task does; a task that fails does not keep the next from running. */
  run<T>(task: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(task);
    this.#tail = result.then(
      () => undefined,
      () => undefined,
    );
    return result;
  }

  /** Resolves when everything that was given to the lane so far is over. */
  idle(): Promise<void> {
    return this.#tail;
  }
}
