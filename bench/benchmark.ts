/** What a file bench/NAME.ts exports, apart from the command that runs it. */

/** How a benchmark is run. */
export interface BenchmarkOptions {
  signal: AbortSignal;
  /** Says on standard error what is being done; for runs that take minutes. */
  progress: (message: string) => void;
  /** Words of the command line after NAME, for the benchmark's own settings. */
  args: readonly string[];
}

/** What a benchmark found. */
export interface BenchmarkResult {
  /** By name with its unit, as `tokens_per_s`; null where a figure could not be measured, with the reason in `notes`. */
  figures: Readonly<Record<string, unknown>>;
  notes?: readonly string[];
}

/** The exports of bench/NAME.ts. */
export interface Benchmark {
  /** One line: what is measured against what. */
  describe: string;
  /** Whether its words may be flags without a `--` before them; for others these are usage errors. */
  takesFlags?: boolean;
  run(options: BenchmarkOptions): Promise<BenchmarkResult>;
}
