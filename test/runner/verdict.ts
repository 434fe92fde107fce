/** Decides, from what was observed of a test process, whether its file passed and what to say if not. */

import type { TestEvent } from './protocol.ts';

/** Everything the runner saw of one test process. */
export interface Observation {
  events: readonly TestEvent[];
  exitCode: number | null;
  signal: NodeJS.Signals | null;
  /** The file's time limit ran out and the runner killed it; the limit in milliseconds. */
  timedOutAfterMs: number | undefined;
  /** Command lines of processes that the file started and left running. */
  leftBehind: readonly string[];
}

/** The outcome of one test file. It passed if and only if `failed` is 0. */
export interface Verdict {
  passed: number;
  /** Failed tests, and one more for problems that belong to no single test. */
  failed: number;
  skipped: number;
  failedTests: readonly string[];
  skippedTests: readonly string[];
  /** What is wrong apart from failed tests, one sentence each, possibly with a stack. */
  problems: readonly string[];
}

/**
 * Judges one file. Passing needs all of: it ended by itself with exit code 0 after its last suite, every declared test
 * was run or skipped, at least one was declared, none failed, no hook failed, nothing was narrowed by `only`, no error
 * went uncaught, no handle stayed open, and no process was left behind.
 */
export function judge({ events, exitCode, signal, timedOutAfterMs, leftBehind }: Observation): Verdict {
  const named = <K extends TestEvent['kind']>(kind: K) =>
    events.filter((event): event is Extract<TestEvent, { kind: K }> => event.kind === kind);
  const passed = named('passed').length;
  const failedTests = named('failed').map(({ name }) => name);
  const skippedTests = named('skipped').map(({ name }) => name);
  const narrowed = named('narrowed').map(({ name }) => name);
  const total = named('registered').length + skippedTests.length;
  const ended = new Set([...named('passed'), ...named('failed')].map(({ name }) => name));
  const running = named('started').findLast(({ name }) => !ended.has(name));
  const whileRunning = running === undefined ? '' : ` while "${running.name}" was running`;
  const finished = named('finished').length > 0;
  const lingering = named('lingering')[0];
  const uncaught = named('uncaught');

  const problems: string[] = [];
  for (const { origin, text } of uncaught) {
    problems.push(`${origin === 'unhandledRejection' ? 'unhandled rejection' : 'uncaught exception'}: ${text}`);
  }
  for (const { hook, text } of named('hookFailed')) problems.push(`a "${hook}" hook failed: ${text}`);

  if (timedOutAfterMs !== undefined) {
    const limit = `${timedOutAfterMs / 1000} s`;
    problems.push(
      finished
        ? `all tests ran, but something kept the process alive until its limit of ${limit}`
        : `killed at its time limit of ${limit}${whileRunning}`,
    );
  } else if (lingering !== undefined) {
    problems.push(
      `all tests ran, but open handles kept the process alive: ${lingering.resources.join(', ') || 'unknown'}`,
    );
  } else if (signal !== null) {
    problems.push(`ended by ${signal}${whileRunning}`);
  } else if (!finished && uncaught.length === 0) {
    problems.push(
      exitCode === 13
        ? `nothing was left to wait for${whileRunning}: a promise that never settles`
        : `ended with exit code ${exitCode} before all tests had run${whileRunning}`,
    );
  } else if (finished && exitCode !== 0 && failedTests.length === 0) {
    problems.push(`ended with exit code ${exitCode}`);
  }

  if (narrowed.length > 0) problems.push(`"only" leaves the other tests out: ${narrowed.join(', ')}`);
  if (finished) {
    const missing = total - passed - failedTests.length - skippedTests.length;
    if (total === 0) problems.push('no tests');
    else if (missing > 0 && narrowed.length === 0) {
      problems.push(`${missing} of ${total} tests never ran: is test.run() missing, or did a hook fail?`);
    }
  }
  for (const command of leftBehind) problems.push(`left a process running: ${command}`);

  return {
    passed,
    failed: failedTests.length + (problems.length > 0 ? 1 : 0),
    skipped: skippedTests.length,
    failedTests,
    skippedTests,
    problems,
  };
}
