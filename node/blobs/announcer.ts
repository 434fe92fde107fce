/**
 * Announces blobs in the background, one after the other, until each has its provider record in the DHT.
 *
 * Records live in the memory of other peers and are gone when a whole network restarts, so holders announce again what
 * they still have.
 */
import type { Discovery } from '../network/interface.ts';
import type { Log } from '../network/log.ts';

/** Pause between two records: announcing must not compete with a network that is just starting. */
const PACE_MS = 250;
/** Pause after a record that nobody took: there is no peer yet. */
const RETRY_MS = 1000;
/** Blobs that may wait; later ones are dropped. Who looks for them can still ask its neighbours. */
const MAX_WAITING = 65_536;

export class Announcer {
  readonly #network: Pick<Discovery, 'provide'>;
  readonly #log: Log;
  readonly #waiting = new Set<string>();
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;

  constructor(network: Pick<Discovery, 'provide'>, log: Log) {
    this.#network = network;
    this.#log = log;
  }

  /** Puts a blob in line, unless it waits already. Returns at once. */
  announce(cid: string): void {
    if (this.#stop.signal.aborted) return;
    if (this.#waiting.size >= MAX_WAITING) {
      this.#log.warn({ cid }, 'too many blobs wait to be announced; this one is left out');
      return;
    }
    this.#waiting.add(cid);
    this.#running ??= this.#work().finally(() => {
      this.#running = undefined;
    });
  }

  /** Ends announcing; what waits is dropped. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #work(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const [cid] = this.#waiting;
      if (cid === undefined) return;
      this.#waiting.delete(cid);
      try {
        await this.#network.provide(cid, { signal });
        await this.#pause(PACE_MS);
      } catch (error) {
        if (signal.aborted) return;
        this.#log.debug({ cid, error: String(error) }, 'nobody takes the provider record yet');
        this.#waiting.add(cid);
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
