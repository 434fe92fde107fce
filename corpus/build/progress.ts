/**
 * How far a build is.
 */

/** One report. Counts go up only; rates are over the whole build so far. */
export interface BuildProgress {
  /** `reading` text, `packing` shards, `done`; or `reused` when nothing had to be built. */
  readonly phase: 'reading' | 'packing' | 'done' | 'reused';
  /** Bytes on disk. */
  readonly bytesRead: number;
  readonly bytesTotal: number;
  readonly documents: number;
  readonly tokens: number;
  /** Shards written. */
  readonly shards: number;
  readonly seconds: number;
  /** Megabytes (10^6) of source read per second; 0 when reused. */
  readonly megabytesPerSecond: number;
}

/** Time between two reports: fast enough for a bar, slow enough to cost nothing. */
const REPORT_INTERVAL_MS = 200;

/** Counts and reports: when a phase begins, then at most every {@link REPORT_INTERVAL_MS}, and at the end. */
export class ProgressMeter {
  readonly #bytesTotal: number;
  readonly #report: ((progress: BuildProgress) => void) | undefined;
  readonly #startMs = performance.now();
  #reportedMs = this.#startMs;
  #reportedPhase: BuildProgress['phase'] | undefined;
  #phase: BuildProgress['phase'] = 'reading';
  #bytesRead = 0;
  #documents = 0;
  #tokens = 0;
  #shards = 0;

  constructor(bytesTotal: number, report?: (progress: BuildProgress) => void) {
    this.#bytesTotal = bytesTotal;
    this.#report = report;
  }

  /** Bytes were read. */
  read(bytes: number): void {
    this.#bytesRead += bytes;
    this.#tick();
  }

  /** A document was encoded. */
  document(tokens: number): void {
    this.#documents++;
    this.#tokens += tokens;
  }

  /** A shard was written. */
  shard(): void {
    this.#phase = 'packing';
    this.#shards++;
    this.#tick();
  }

  /** Sends the last report, with the final counts. */
  finish(phase: 'done' | 'reused', totals: { documents: number; tokens: number; shards: number }): void {
    this.#phase = phase;
    this.#documents = totals.documents;
    this.#tokens = totals.tokens;
    this.#shards = totals.shards;
    this.#send();
  }

  #tick(): void {
    const due = performance.now() - this.#reportedMs >= REPORT_INTERVAL_MS;
    if (due || this.#phase !== this.#reportedPhase) this.#send();
  }

  #send(): void {
    this.#reportedMs = performance.now();
    this.#reportedPhase = this.#phase;
    const seconds = (this.#reportedMs - this.#startMs) / 1000;
    this.#report?.({
      phase: this.#phase,
      bytesRead: this.#bytesRead,
      bytesTotal: this.#bytesTotal,
      documents: this.#documents,
      tokens: this.#tokens,
      shards: this.#shards,
      seconds,
      megabytesPerSecond: seconds > 0 ? this.#bytesRead / 1e6 / seconds : 0,
    });
  }
}
