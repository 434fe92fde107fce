/**
 * What a test process tells the runner about itself, one JSON object a line on file descriptor {@link reportFd}.
 *
 * A pipe of its own rather than the printed text: colours, a test's own output, or a process that dies half-way can
 * then never be mistaken for a result. Writes are synchronous, so that nothing is lost when the process is killed.
 */

/** The file descriptor on which a test process writes its events. 0 to 2 are the standard streams. */
export const reportFd = 3;

/** One thing that happened in a test process, in order. */
export type TestEvent =
  /** A test was declared, in a suite that may or may not be run. */
  | { kind: 'registered' }
  /** A test was declared with `skip`. */
  | { kind: 'skipped'; name: string }
  /** A test was declared with `only`: the others of its suite will not run. */
  | { kind: 'narrowed'; name: string }
  | { kind: 'started'; name: string }
  | { kind: 'passed'; name: string; milliseconds: number }
  | { kind: 'failed'; name: string; milliseconds: number }
  /** A `before`, `after`, `before.each` or `after.each` hook failed; `text` is the error with its stack. */
  | { kind: 'hookFailed'; hook: string; text: string }
  /** An error that nobody caught. `origin` says whether it was thrown or a rejection. */
  | { kind: 'uncaught'; origin: string; text: string }
  /** Every suite has run to its end. */
  | { kind: 'finished' }
  /** The process should have ended by itself and has not; `resources` keep it alive. */
  | { kind: 'lingering'; resources: string[] };

/** What the runner passes to a test process, in the environment variable {@link childOptionsVariable} as JSON. */
export interface ChildOptions {
  /** Absolute path of the test file. */
  file: string;
  /** Longest time that one test or hook may take, in milliseconds. */
  testLimitMs: number;
  /** Time that the process gets to end by itself after its last test, in milliseconds. */
  lingerMs: number;
}

/** Removed from the environment at once by the child, so that processes started by tests do not see it. */
export const childOptionsVariable = 'ALICE_TEST_CHILD';
