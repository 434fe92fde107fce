/**
 * Calls between two processes over Node's IPC channel: each side offers functions of one argument, and may be asked
 * several things at a time. Node's "advanced" serialization carries bytes and bigints.
 */

/** The functions that one side offers. */
export type Offers<T> = { readonly [K in keyof T]: (argument: never) => Promise<unknown> };

type Message =
  | { readonly kind: 'call'; readonly id: number; readonly name: string; readonly argument: unknown }
  | { readonly kind: 'answer'; readonly id: number; readonly value: unknown }
  | { readonly kind: 'failure'; readonly id: number; readonly message: string };

/** The part of `process` and of a child process that is needed. */
export interface Channel {
  send?(message: Message, handle: undefined, options: object, done: (error: Error | null) => void): boolean;
  on(event: 'message', listener: (message: Message) => void): unknown;
  once(event: 'disconnect', listener: () => void): unknown;
}

/** Thrown when the other process failed at what it was asked, or is gone. */
export class RemoteCallError extends Error {
  static readonly code = 'ERR_REMOTE_CALL';
  readonly code = RemoteCallError.code;
  override readonly name = 'RemoteCallError';
}

/** One end of the line. `Remote`: what the other side offers. */
export class ProcessLine<Remote extends Offers<Remote>> {
  readonly #channel: Channel;
  readonly #offers: Readonly<Record<string, (argument: never) => Promise<unknown>>>;
  readonly #open = new Map<number, PromiseWithResolvers<unknown>>();
  #next = 0;
  #gone = false;

  constructor(channel: Channel, offers: Readonly<Record<string, (argument: never) => Promise<unknown>>>) {
    this.#channel = channel;
    this.#offers = offers;
    channel.on('message', (message) => this.#take(message));
    channel.once('disconnect', () => {
      this.#gone = true;
      for (const { reject } of this.#open.values()) reject(new RemoteCallError('the other process is gone'));
      this.#open.clear();
    });
  }

  /** Asks the other side. Throws {@link RemoteCallError}. */
  async ask<K extends keyof Remote & string>(
    name: K,
    argument: Parameters<Remote[K]>[0],
  ): Promise<Awaited<ReturnType<Remote[K]>>> {
    if (this.#gone) throw new RemoteCallError(`${name}: the other process is gone`);
    const id = this.#next++;
    const answer = Promise.withResolvers<unknown>();
    this.#open.set(id, answer);
    this.#post({ kind: 'call', id, name, argument });
    return (await answer.promise) as Awaited<ReturnType<Remote[K]>>;
  }

  #post(message: Message): void {
    // The other side may be on its way out; then 'disconnect' tells whoever waits.
    this.#channel.send?.(message, undefined, {}, () => {});
  }

  #take(message: Message): void {
    if (message.kind === 'call') {
      void this.#answer(message.id, message.name, message.argument);
      return;
    }
    const open = this.#open.get(message.id);
    this.#open.delete(message.id);
    if (message.kind === 'answer') open?.resolve(message.value);
    else open?.reject(new RemoteCallError(message.message));
  }

  async #answer(id: number, name: string, argument: unknown): Promise<void> {
    try {
      const offer = this.#offers[name];
      if (offer === undefined) throw new Error(`nothing is called ${name}`);
      this.#post({ kind: 'answer', id, value: await offer(argument as never) });
    } catch (error) {
      this.#post({ kind: 'failure', id, message: `${name}: ${(error as Error).message}` });
    }
  }
}
