/**
 * Starts the processes of a local network, keeps their latest status, starts a crashed one again, ends them all.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { ChildMessage } from '../../node/api/parent-link.ts';
import type { NodeStatus, Role } from '../../node/api/status.ts';
import { RotatingFile } from '../../node/log/rotating-file.ts';
import { selfCommand } from './self-command.ts';

/** A process that a local network consists of. */
export interface Member {
  readonly name: string;
  readonly role: Role;
  /** Arguments of the CLI, the role first. */
  readonly arguments: readonly string[];
  /** Its data folder; standard output and error go to `output.log` in it. */
  readonly dir: string;
}

/** Where a member stands. `restarting`: it crashed and waits to be started again. */
export type MemberState = 'starting' | 'running' | 'restarting' | 'stopped';

/** Thrown when a member cannot start at all, or exits with a usage error: trying again would not help. */
export class MemberFailedError extends Error {
  static readonly code = 'ERR_MEMBER_FAILED';
  readonly code = MemberFailedError.code;
  override readonly name = 'MemberFailedError';
}

/** Pause before a crashed member is started again. Long enough to see in the view that the others go on without it. */
const RESTART_DELAY_MS = 3000;
/** A member that does not report as ready within this time failed to start. Slow machines start eight Nodes at once. */
const READY_TIMEOUT_MS = 120_000;
/** A member that has not ended this long after SIGTERM is killed. */
const STOP_TIMEOUT_MS = 20_000;

/** Where `output.log` begins anew; the one before is kept beside it, as `output.log.1`. */
const OUTPUT_LIMIT_BYTES = 64 * 1024 ** 2;

interface Running {
  readonly member: Member;
  state: MemberState;
  process: ChildProcess | undefined;
  status: NodeStatus | undefined;
  restarts: number;
  /** Set when the end of the process is wanted. */
  stopping: boolean;
  failure: string | undefined;
}

interface SupervisorEvents {
  /** A member reported, crashed, or came back. */
  change: [name: string];
  /** Something worth a line of its own. */
  notice: [line: string];
  /** A member failed for good. */
  failed: [error: MemberFailedError];
}

export class Supervisor extends EventEmitter<SupervisorEvents> {
  readonly #members = new Map<string, Running>();
  readonly #restartTimers = new Map<string, NodeJS.Timeout>();

  /** State and latest status of each member, in the order in which they were started. */
  members(): { member: Member; state: MemberState; status: NodeStatus | undefined; restarts: number }[] {
    return [...this.#members.values()].map(({ member, state, status, restarts }) => ({
      member,
      state,
      status,
      restarts,
    }));
  }

  /** Latest status of one member. */
  status(name: string): NodeStatus | undefined {
    return this.#members.get(name)?.status;
  }

  /**
   * Starts a member and resolves with its first status. Throws {@link MemberFailedError} when it exits first, or is not
   * ready in time.
   */
  async start(member: Member, options: { signal?: AbortSignal } = {}): Promise<NodeStatus> {
    const running: Running = {
      member,
      state: 'starting',
      process: undefined,
      status: undefined,
      restarts: 0,
      stopping: false,
      failure: undefined,
    };
    this.#members.set(member.name, running);
    await mkdir(member.dir, { recursive: true });
    if (running.stopping || options.signal?.aborted === true) {
      running.state = 'stopped';
      throw new MemberFailedError(`${member.name}: stopped before it was started`);
    }
    return this.#launch(running, options);
  }

  #launch(running: Running, { signal }: { signal?: AbortSignal } = {}): Promise<NodeStatus> {
    const { member } = running;
    const { command, leadingArguments } = selfCommand();
    const output = new RotatingFile(join(member.dir, 'output.log'), OUTPUT_LIMIT_BYTES);
    const child = spawn(command, [...leadingArguments, ...member.arguments], {
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      env: { ...process.env, ALICE_LOG_FORMAT: 'json' },
    });
    running.process = child;
    running.state = 'starting';
    running.failure = undefined;
    child.stdout?.on('data', (written: Buffer) => output.write(written));
    child.stderr?.on('data', (written: Buffer) => output.write(written));

    return new Promise<NodeStatus>((resolve, reject) => {
      const fail = (reason: string) => {
        cleanup();
        reject(new MemberFailedError(`${member.name}: ${reason} (its output: ${join(member.dir, 'output.log')})`));
      };
      const timer = setTimeout(() => {
        child.kill('SIGKILL');
        fail(`not ready within ${READY_TIMEOUT_MS / 1000} s`);
      }, READY_TIMEOUT_MS);
      const onAbort = () => fail('stopped before it was ready');
      const cleanup = () => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      child.on('message', (message: ChildMessage) => {
        if (message.type === 'failed') {
          running.failure = message.message;
          return;
        }
        running.status = message.status;
        if (message.type === 'ready') {
          running.state = 'running';
          cleanup();
          resolve(message.status);
        }
        this.emit('change', member.name);
      });
      child.once('error', (error) => fail(error.message));
      // Not at 'exit': what it said last may still be in the pipes.
      child.once('close', () => output.close());
      child.once('exit', (exitCode, exitSignal) => {
        running.process = undefined;
        fail(running.failure ?? (exitSignal === null ? `exited with code ${exitCode}` : `ended by ${exitSignal}`));
        this.#ended(running, exitCode, exitSignal);
      });
    });
  }

  #ended(running: Running, exitCode: number | null, exitSignal: NodeJS.Signals | null): void {
    const { member } = running;
    if (running.stopping) {
      running.state = 'stopped';
    } else if (running.failure !== undefined) {
      // It said why it cannot run; starting it again would end in the same way.
      running.state = 'stopped';
      this.emit('failed', new MemberFailedError(`${member.name}: ${running.failure}`));
    } else {
      running.state = 'restarting';
      running.restarts += 1;
      const how = exitSignal === null ? `exited with code ${exitCode}` : `was ended by ${exitSignal}`;
      this.emit('notice', `${member.name} ${how}; starting it again in ${RESTART_DELAY_MS / 1000} s`);
      const timer = setTimeout(() => {
        this.#restartTimers.delete(member.name);
        this.#launch(running).then(
          () => this.emit('notice', `${member.name} is back`),
          (error: Error) => this.emit('notice', error.message),
        );
      }, RESTART_DELAY_MS);
      this.#restartTimers.set(member.name, timer);
    }
    this.emit('change', member.name);
  }

  /** Ends the named members, or all: SIGTERM, then SIGKILL for those that do not listen. Resolves when they are gone. */
  async stop(names: readonly string[] = [...this.#members.keys()].reverse()): Promise<void> {
    await Promise.all(
      names.map(async (name) => {
        const running = this.#members.get(name);
        if (running === undefined) return;
        running.stopping = true;
        clearTimeout(this.#restartTimers.get(name));
        const child = running.process;
        if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
        const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
        child.kill('SIGTERM');
        const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
        await ended;
        clearTimeout(timer);
      }),
    );
  }
}
