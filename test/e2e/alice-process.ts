/**
 * Runs the real command line as a process, for the end-to-end tests.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const ENTRY = fileURLToPath(new URL('../../bin/alice.js', import.meta.url));

/** What a finished command left. */
export interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A running `alice`. */
export class AliceProcess {
  readonly child: ChildProcess;
  readonly finished: Promise<Finished>;
  #stdout = '';
  #stderr = '';
  readonly #watchers = new Set<() => void>();

  constructor(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
    this.child = spawn(process.execPath, [ENTRY, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
    });
    this.child.stdout?.on('data', (chunk) => this.#took(() => (this.#stdout += chunk)));
    this.child.stderr?.on('data', (chunk) => this.#took(() => (this.#stderr += chunk)));
    this.finished = new Promise((resolve) => {
      this.child.on('close', (code) => {
        resolve({ code, stdout: this.#stdout, stderr: this.#stderr });
        this.#took(() => {});
      });
    });
  }

  get output(): string {
    return this.#stdout + this.#stderr;
  }

  #took(change: () => void): void {
    change();
    for (const watcher of [...this.#watchers]) watcher();
  }

  /** Resolves when the output so far matches; rejects when the process ends first or the time is over. */
  async prints(pattern: RegExp, limitMs: number): Promise<RegExpMatchArray> {
    return await new Promise((resolve, reject) => {
      const settle = (act: () => void) => {
        clearTimeout(timer);
        this.#watchers.delete(check);
        act();
      };
      const check = () => {
        const match = this.output.match(pattern);
        if (match !== null) settle(() => resolve(match));
        else if (this.child.exitCode !== null || this.child.signalCode !== null) {
          settle(() => reject(new Error(`ended before it printed ${pattern}:\n${this.output}`)));
        }
      };
      const timer = setTimeout(
        () => settle(() => reject(new Error(`did not print ${pattern} within ${limitMs} ms:\n${this.output}`))),
        limitMs,
      );
      this.#watchers.add(check);
      check();
    });
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }
}

/** Runs a command to its end. */
export function alice(...args: readonly string[]): Promise<Finished> {
  return new AliceProcess(args).finished;
}

/** The JSON object in the last line of standard output. */
export function lastJson<T>(finished: Finished): T {
  const line = finished.stdout.trim().split('\n').at(-1) ?? '';
  return JSON.parse(line) as T;
}
