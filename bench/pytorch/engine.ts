/** PyTorch as the baseline of training benchmarks: `alice.py` in a process of its own, one request at a time. */
import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Preset } from '../../kernels/model/preset.ts';

/** What the baseline trains. */
export interface PyTorchOptions {
  readonly preset: Preset;
  readonly threads: number;
  /** Sequences per step. */
  readonly batch: number;
  /** Tokens predicted per sequence. */
  readonly context: number;
  /** Raw float32 file of the weights in canonical order. Default: random ones. */
  readonly weightsPath?: string;
  /** Of weights and arithmetic: `float64` is a reference for float32. Default `float32`. */
  readonly dtype?: 'float32' | 'float64';
}

/** How a step is taken. */
export interface PyTorchStep {
  /** `batch x (context + 1)` ids. */
  readonly tokens: Int32Array;
  readonly precision: 'fp32' | 'bf16';
  /** Recompute each block in the backward pass. */
  readonly checkpoint: boolean;
  /** Clip to norm 1 and step with AdamW; undefined: loss and gradient only. */
  readonly learningRate?: number;
}

/** Thrown when Python, PyTorch or the script fails. */
export class PyTorchError extends Error {
  static readonly code = 'ERR_PYTORCH';
  readonly code = PyTorchError.code;
  override readonly name = 'PyTorchError';
}

/** Interpreters that are tried: the system's first, since that is where Debian's python3-torch is found. */
const INTERPRETERS = ['/usr/bin/python3', 'python3'];

/** The first Python that can import PyTorch, or undefined. */
export function findPyTorch(): string | undefined {
  return INTERPRETERS.find((python) => spawnSync(python, ['-c', 'import torch'], { stdio: 'ignore' }).status === 0);
}

/** A model in PyTorch. One call at a time. */
export class PyTorchEngine {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #answers: AsyncIterator<string>;
  #errors = '';
  /** Of PyTorch, for the report. */
  version = '';

  private constructor(python: string) {
    this.#child = spawn(python, [fileURLToPath(new URL('alice.py', import.meta.url))]);
    this.#child.stderr.on('data', (data: Buffer) => {
      // The last words are enough to say what went wrong.
      this.#errors = (this.#errors + data.toString()).slice(-2000);
    });
    // A child that died is reported by the answer that does not come.
    this.#child.stdin.on('error', () => undefined);
    this.#child.on('error', (error) => {
      this.#errors += error.message;
    });
    this.#answers = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  /** Starts the process. Throws {@link PyTorchError}. */
  static async start(python: string, options: PyTorchOptions): Promise<PyTorchEngine> {
    const engine = new PyTorchEngine(python);
    const { preset, threads, batch, context, weightsPath = null, dtype = 'float32' } = options;
    const request = { kind: 'start', preset, threads, batch, context, weights: weightsPath, dtype };
    engine.version = (await engine.#ask<{ version: string }>(request)).version;
    return engine;
  }

  /** Takes a step. Seconds are the process's own: no transfer is in them. Throws {@link PyTorchError}. */
  async step(options: PyTorchStep): Promise<{ readonly loss: number; readonly seconds: number }> {
    const { tokens, precision, checkpoint, learningRate = null } = options;
    return await this.#ask({
      kind: 'step',
      tokens: [...tokens],
      precision,
      checkpoint,
      learning_rate: learningRate,
    });
  }

  /** Loss of `batch x (context + 1)` tokens; their gradient is written to `path`, raw float32 in canonical order. */
  async gradient(tokens: Int32Array, precision: PyTorchStep['precision'], path: string): Promise<number> {
    return (await this.#ask<{ loss: number }>({ kind: 'gradient', tokens: [...tokens], precision, path })).loss;
  }

  /** Mean loss of each sequence, nats. Throws {@link PyTorchError}. */
  async losses(tokens: Int32Array): Promise<readonly number[]> {
    return (await this.#ask<{ losses: number[] }>({ kind: 'losses', tokens: [...tokens] })).losses;
  }

  /** Ends the process. */
  close(): void {
    this.#child.kill();
  }

  async #ask<Answer>(request: object): Promise<Answer> {
    this.#child.stdin.write(`${JSON.stringify(request)}\n`);
    const { done, value } = await this.#answers.next();
    if (done === true) throw new PyTorchError(`PyTorch ended: ${this.#errors.trim()}`);
    return JSON.parse(value) as Answer;
  }
}
