/**
 * The straightforward NumPy versions, in a process that answers in turns with ours.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const SCRIPT = fileURLToPath(new URL('./straightforward.py', import.meta.url));

/** Interpreters that may have NumPy. */
const PYTHONS = ['python3', '/usr/bin/python3'];

/** Why NumPy figures are null. */
export const NO_NUMPY = 'numpy figures: no python3 with NumPy on this machine';

/** The script, loaded with a matrix. */
export class NumPy {
  /** Its version: 2.x selects with SIMD and is some three times as fast at that as 1.x. */
  readonly version: string;
  readonly #process: ChildProcess;
  readonly #answers: Interface;

  private constructor(process: ChildProcess, version: string) {
    this.#process = process;
    this.version = version;
    if (process.stdout === null) throw new TypeError('the process has no output');
    this.#answers = createInterface({ input: process.stdout });
  }

  /** Starts it with a matrix to compress; undefined on a machine without NumPy. */
  static async start(delta: Float32Array, rows: number, columns: number, topK: number): Promise<NumPy | undefined> {
    const ask = ['-c', 'import numpy; print(numpy.__version__)'];
    const found = PYTHONS.map((python) => ({ python, ...spawnSync(python, ask, { encoding: 'utf8' }) })).find(
      ({ status }) => status === 0,
    );
    if (found === undefined) return undefined;
    const { python, stdout } = found;
    const folder = await mkdtemp(join(tmpdir(), 'alice-bench-'));
    try {
      const path = join(folder, 'delta.f32');
      await writeFile(path, new Uint8Array(delta.buffer, delta.byteOffset, delta.byteLength));
      const env = { ...process.env, OMP_NUM_THREADS: '1', OPENBLAS_NUM_THREADS: '1' };
      const numpy = new NumPy(spawn(python, [SCRIPT], { stdio: ['pipe', 'pipe', 'inherit'], env }), stdout.trim());
      await numpy.seconds(`load ${rows} ${columns} ${topK} ${path}`);
      return numpy;
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }

  /** Runs a command of the script and returns the seconds it took there. */
  async seconds(command: string): Promise<number> {
    const answer = once(this.#answers, 'line', { signal: AbortSignal.timeout(120_000) });
    this.#process.stdin?.write(`${command}\n`);
    const [line] = (await answer) as [string];
    return Number(line);
  }

  /** Speed of a command in MB/s of `bytes`, for `compare` of measure.ts. */
  speed(command: string, bytes: number): () => Promise<number> {
    return async () => bytes / 1e6 / (await this.seconds(command));
  }

  /** Ends the process. */
  async close(): Promise<void> {
    const gone = once(this.#process, 'exit');
    this.#process.stdin?.end();
    await gone;
  }
}
