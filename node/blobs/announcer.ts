/**
 * Announces blobs in the background, and takes announcements back, one after the other, until each has its provider record
 * in the DHT or has none of ours any more.
 *
 * Records live in the memory of other peers and are gone when a whole network restarts, so holders announce again what
 * they still have. What is taken back is no longer renewed, nor told by this peer; records at others expire.
 */
import type { Discovery } from '../network/interface.ts';
import type { Log } from '../network/log.ts';

/** Pause between two records: announcing must not compete with a network that is just starting. */
const PACE_MS = 250;
/** Pause after a record that nobody took: there is no peer yet. */
const RETRY_MS = 1000;
/** Blobs that may wait; later ones are dropped. Who looks for them can still ask its neighbours. */
const MAX_WAITING = 65_536;

/** What an announcer needs of the network. */
export type Directory = Pick<Discovery, 'provide'> & {
  /** Ends the announcement of a content. */
  withdraw(cid: string): Promise<void>;
};

type Intention = 'announce' | 'withdraw';

export class Announcer {
  readonly #network: Directory;
  readonly #log: Log;
  /** What is to be done, in this order; of a blob only the last thing that was asked for. */
  readonly #waiting = new Map<string, Intention>();
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;

  constructor(network: Directory, log: Log) {
    this.#network = network;
    this.#log = log;
  }

  /** Puts a blob in line, unless it waits already. Returns at once. */
  announce(cid: string): void {
    this.#ask(cid, 'announce');
  }

  /** Takes an announcement back, also one that still waits. Returns at once. */
  withdraw(cid: string): void {
    this.#ask(cid, 'withdraw');
  }

  /** Ends announcing; what waits is dropped. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  #ask(cid: string, intention: Intention): void {
    if (this.#stop.signal.aborted) return;
    if (this.#waiting.size >= MAX_WAITING && !this.#waiting.has(cid)) {
      this.#log.warn({ cid, intention }, 'too many blobs wait to be announced; this one is left out');
      return;
    }
    this.#waiting.set(cid, intention);
    this.#running ??= this.#work().finally(() => {
      this.#running = undefined;
    });
  }

  async #work(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const [next] = this.#waiting;
      if (next === undefined) return;
      const [cid, intention] = next;
      this.#waiting.delete(cid);
      try {
        if (intention === 'withdraw') {
          await this.#network.withdraw(cid);
          continue;
        }
        await this.#network.provide(cid, { signal });
        await this.#pause(PACE_MS);
      } catch (error) {
        if (signal.aborted) return;
        this.#log.debug({ cid, intention, error: String(error) }, 'a provider record could not be changed yet');
        // Unless something else was asked for meanwhile.
        if (!this.#waiting.has(cid)) this.#waiting.set(cid, intention);
        await this.#pause(RETRY_MS);
      }
    }
  }

  #pause(ms: number): Promise<void> {
    const { signal } = this.#stop;
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      signal.addEventListener('abort', done, { once: true });
      if (signal.aborted) done();
    });
  }
}
