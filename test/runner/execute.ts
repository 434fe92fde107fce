/** Runs one test file in a process and a process group of its own, and observes it. */

import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Directives } from './directives.ts';
import { type ChildOptions, childOptionsVariable, reportFd, type TestEvent } from './protocol.ts';
import type { Observation } from './verdict.ts';

/** What a file may print before the middle is dropped: enough for any trace, bounded for an endless loop. */
const outputLimitBytes = 4 * 1024 * 1024;

/** After its last test a process must end by itself within this time: closing sockets and databases takes a moment. */
const lingerMs = 5_000;

/** Children that were asked to end may need this long to be gone after the test process has ended. */
const childrenGoneMs = 2_000;

/** Output that comes through processes outside the group is waited for this long. */
const outputClosedMs = 1_000;

/** One executed file: what was observed, what it printed, and how long it took. */
export interface Execution {
  observation: Observation;
  output: string;
  seconds: number;
}

/** Keeps the beginning and the end of a text that may be too long to keep. */
class BoundedText {
  readonly #limit: number;
  #head = '';
  #tail = '';
  #dropped = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  add(chunk: string): void {
    const room = Math.max(0, this.#limit / 2 - this.#head.length);
    this.#head += chunk.slice(0, room);
    this.#tail += chunk.slice(room);
    const excess = this.#tail.length - this.#limit / 2;
    if (excess > 0) {
      this.#tail = this.#tail.slice(excess);
      this.#dropped += excess;
    }
  }

  toString(): string {
    return this.#dropped === 0
      ? this.#head + this.#tail
      : `${this.#head}\n[${this.#dropped} characters left out]\n${this.#tail}`;
  }
}

/** Live members of a process group other than its leader, as `pid command line`. Empty where /proc is missing. */
function groupMembers(group: number): string[] {
  const members: string[] = [];
  let entries: string[];
  try {
    entries = readdirSync('/proc');
  } catch {
    return [];
  }
  for (const pid of entries) {
    if (!/^\d+$/.test(pid) || Number(pid) === group) continue;
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      // "pid (name) state ppid pgrp ...": the name may hold anything, so count from its closing bracket.
      const [state, , processGroup] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      if (Number(processGroup) !== group || state === 'Z' || state === 'X') continue;
      members.push(`${pid} ${readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim()}`);
    } catch {
      // It ended between listing and reading.
    }
  }
  return members;
}

/** Kills every process of a group; a group that is gone is fine. */
function killGroup(group: number): void {
  try {
    process.kill(-group, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Waits until the other members of a group are gone, at most {@link childrenGoneMs}, and returns those that are not. */
async function waitForChildren(group: number): Promise<string[]> {
  const deadline = performance.now() + childrenGoneMs;
  let members = groupMembers(group);
  while (members.length > 0 && performance.now() < deadline) {
    await delay(50);
    members = groupMembers(group);
  }
  return members;
}

async function readEvents(stream: Readable, events: TestEvent[]): Promise<void> {
  for await (const line of createInterface({ input: stream })) events.push(JSON.parse(line) as TestEvent);
}

const ended = (child: ChildProcess): Promise<{ exitCode: number | null; signal: NodeJS.Signals | null }> =>
  new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (exitCode, signal) => resolve({ exitCode, signal }));
  });

/**
 * Runs `file` (absolute) under its directives. The file gets its own `TMPDIR`, removed afterwards. Whatever of its
 * process group is alive at the end is killed. Aborting kills it at once; the observation then shows SIGKILL.
 * Rejects only if no process can be started.
 */
export async function execute(
  file: string,
  { fileLimitMs, testLimitMs }: Directives,
  { signal }: { signal?: AbortSignal } = {},
): Promise<Execution> {
  const start = performance.now();
  const temporary = mkdtempSync(join(tmpdir(), 'alice-test-'));
  const options: ChildOptions = { file, testLimitMs, lingerMs };
  const child = spawn(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', fileURLToPath(new URL('./child.ts', import.meta.url))],
    {
      detached: true,
      env: { ...process.env, [childOptionsVariable]: JSON.stringify(options), TMPDIR: temporary },
      stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    },
  );
  const output = new BoundedText(outputLimitBytes);
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (chunk: string) => output.add(chunk));
  }
  const events: TestEvent[] = [];
  const eventsRead = readEvents(child.stdio[reportFd] as Readable, events);
  const closed = new Promise<void>((resolve) => child.once('close', () => resolve()));

  const kill = (): void => {
    if (child.pid !== undefined) killGroup(child.pid);
  };
  let timedOutAfterMs: number | undefined;
  const timer = setTimeout(() => {
    timedOutAfterMs = fileLimitMs;
    kill();
  }, fileLimitMs);
  signal?.addEventListener('abort', kill, { once: true });
  try {
    if (signal?.aborted === true) kill();
    const end = await ended(child);
    clearTimeout(timer);
    const killed = timedOutAfterMs !== undefined || signal?.aborted === true;
    const leftBehind = child.pid === undefined || killed ? [] : await waitForChildren(child.pid);
    kill();
    await Promise.race([Promise.all([closed, eventsRead]), delay(outputClosedMs, undefined, { ref: false })]);
    return {
      observation: { events, ...end, timedOutAfterMs, leftBehind },
      output: output.toString(),
      seconds: (performance.now() - start) / 1000,
    };
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', kill);
    for (const stream of child.stdio) stream?.destroy();
    rmSync(temporary, { recursive: true, force: true });
  }
}
