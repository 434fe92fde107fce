/**
 * Takes the place of the module `uvu` inside a test process (see child.ts).
 *
 * uvu alone calls a file green when a `before` or `after` hook throws, when a test throws something that is no Error,
 * and when `run()` was forgotten. Here every test and hook is wrapped: each is reported on its own, gets a time limit,
 * and whatever it throws becomes an Error before uvu sees it. Running and printing stay uvu's.
 */

import { writeSync } from 'node:fs';
import { inspect } from 'node:util';
import * as uvu from 'uvu';
import { reportFd, type TestEvent } from './protocol.ts';

/** Sends one event to the runner; returns when it is written. */
export function report(event: TestEvent): void {
  const line = Buffer.from(`${JSON.stringify(event)}\n`);
  let written = 0;
  while (written < line.length) {
    try {
      written += writeSync(reportFd, line, written);
    } catch (error) {
      // The pipe may be full; the runner reads it all the time, so trying again is enough.
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
    }
  }
}

/** A test or hook ran longer than its limit. */
export class TestTimeLimitError extends Error {
  static readonly code = 'ERR_TEST_TIME_LIMIT';
  readonly code = TestTimeLimitError.code;

  constructor(limitMs: number) {
    super(`took longer than its limit of ${limitMs / 1000} s`);
    this.name = 'TestTimeLimitError';
  }
}

/** A test threw something that is not an Error, which uvu would take for success. */
export class NotAnErrorThrown extends Error {
  static readonly code = 'ERR_NOT_AN_ERROR_THROWN';
  readonly code = NotAnErrorThrown.code;

  constructor(thrown: unknown) {
    super(`threw something that is not an Error: ${inspect(thrown)}`);
    this.name = 'NotAnErrorThrown';
  }
}

type Handler = uvu.Callback<unknown>;
type State = Parameters<Handler>[0];

let testLimitMs = Number.POSITIVE_INFINITY;

/** Sets the longest time for each test and hook that runs from now on, in milliseconds. */
export function setTestLimit(milliseconds: number): void {
  testLimitMs = milliseconds;
}

/** Calls a handler under the time limit. Throws only Errors that have what uvu's printer reads: name, message, stack. */
async function limited(handler: Handler, state: State): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_, reject) => {
    if (Number.isFinite(testLimitMs)) {
      timer = setTimeout(() => reject(new TestTimeLimitError(testLimitMs)), testLimitMs);
      // A promise that nothing can settle any more then ends the process at once, instead of after the limit.
      timer.unref();
    }
  });
  try {
    await Promise.race([handler(state), limit]);
  } catch (thrown) {
    throw thrown instanceof Error && typeof thrown.name === 'string' ? thrown : new NotAnErrorThrown(thrown);
  } finally {
    clearTimeout(timer);
  }
}

function wrapTest(name: string, handler: Handler): Handler {
  return async (state) => {
    const start = performance.now();
    report({ kind: 'started', name });
    let kind: 'passed' | 'failed' = 'failed';
    try {
      await limited(handler, state);
      kind = 'passed';
    } finally {
      report({ kind, name, milliseconds: Math.round(performance.now() - start) });
    }
  };
}

function wrapHook(hook: string, handler: Handler): Handler {
  return async (state) => {
    try {
      await limited(handler, state);
    } catch (error) {
      report({ kind: 'hookFailed', hook, text: inspect(error) });
      throw error;
    }
  };
}

/** The name under which a test is reported: that of its suite, if it has one, and its own. */
const fullName = (suiteName: string, name: string): string => (suiteName === '' ? name : `${suiteName} › ${name}`);

function instrument(inner: uvu.Test<unknown>, suiteName: string): uvu.Test<unknown> {
  const declare = (name: string, handler: Handler): void => {
    report({ kind: 'registered' });
    inner(name, wrapTest(fullName(suiteName, name), handler));
  };
  const only = (name: string, handler: Handler): void => {
    report({ kind: 'registered' });
    report({ kind: 'narrowed', name: fullName(suiteName, name) });
    inner.only(name, wrapTest(fullName(suiteName, name), handler));
  };
  const skip = (name?: string): void => {
    report({ kind: 'skipped', name: fullName(suiteName, name ?? '(unnamed)') });
    inner.skip();
  };
  const before = Object.assign((handler: Handler) => inner.before(wrapHook('before', handler)), {
    each: (handler: Handler) => inner.before.each(wrapHook('before.each', handler)),
  });
  const after = Object.assign((handler: Handler) => inner.after(wrapHook('after', handler)), {
    each: (handler: Handler) => inner.after.each(wrapHook('after.each', handler)),
  });
  return Object.assign(declare, { only, skip, before, after, run: () => inner.run() }) as uvu.Test<unknown>;
}

/** uvu's `suite`: a group of tests with a name and a state that its tests and hooks receive. */
export function suite<T = Record<string, unknown>>(name = '', state?: T): uvu.Test<T> {
  return instrument(uvu.suite(name, state) as uvu.Test<unknown>, name) as uvu.Test<T>;
}

/** uvu's `test`: the suite without a name. */
export const test = suite();

/** uvu's `exec`: runs every suite whose `run()` was called. */
export const exec = uvu.exec;
