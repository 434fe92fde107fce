/** What `bench memory` asks of its child process, and what that reports. */

/** What computes a gradient. */
export const BACKENDS = ['onnx', 'native-fp32', 'native-bf16'] as const;

/** One of {@link BACKENDS}. */
export type MemoryBackend = (typeof BACKENDS)[number];

/** What the child is asked for. */
export interface GradientTask {
  readonly preset: string;
  readonly store: string;
  readonly backend: MemoryBackend;
  /** For the copy of rounded weights, and activations. */
  readonly scratchFolder: string;
  /** Length of a sequence. */
  readonly context: number;
  readonly sequences: number;
  /** Gradients, one after the other. */
  readonly calls: number;
  readonly threads: number;
  readonly prefetch: boolean;
  readonly spill: boolean;
}

/** One gradient. */
export interface GradientCall {
  readonly loss: number;
  readonly gradientNorm: number;
  /** Elements that the sink got. */
  readonly elements: number;
  /** From reading the first weight to handing on the last part. */
  readonly seconds: number;
  /** In which nothing was computed, as weights were still being read. */
  readonly waitSeconds: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  /** Of `bytesRead` and other files, what came from the disk and not from the page cache. */
  readonly diskBytes: number;
}

/** What it reports. */
export interface GradientReport {
  readonly calls: readonly GradientCall[];
  /** Of verifying the whole store beforehand. */
  readonly openSeconds: number;
  readonly peakBytes: number;
}
