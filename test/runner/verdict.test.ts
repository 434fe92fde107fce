import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { DirectiveError, defaultFileLimitMs, defaultTestLimitMs, readDirectives } from './directives.ts';
import type { TestEvent } from './protocol.ts';
import { judge, type Observation } from './verdict.ts';

const passing: TestEvent[] = [
  { kind: 'registered' },
  { kind: 'started', name: 'a' },
  { kind: 'passed', name: 'a', milliseconds: 1 },
  { kind: 'finished' },
];

const observe = (changes: Partial<Observation>): Observation => ({
  events: passing,
  exitCode: 0,
  signal: null,
  timedOutAfterMs: undefined,
  leftBehind: [],
  ...changes,
});

test('the least that passes passes', () => {
  assert.equal(judge(observe({})), {
    passed: 1,
    failed: 0,
    skipped: 0,
    failedTests: [],
    skippedTests: [],
    problems: [],
  });
});

test('every single deviation from it fails', () => {
  const deviations: Partial<Observation>[] = [
    { exitCode: 1 },
    { exitCode: null, signal: 'SIGSEGV' },
    { timedOutAfterMs: 1000 },
    { leftBehind: ['17 sleep 1000'] },
    { events: [] },
    { events: [{ kind: 'finished' }] },
    { events: passing.slice(0, -1) },
    { events: [{ kind: 'registered' }, ...passing] },
    { events: [...passing, { kind: 'hookFailed', hook: 'after', text: 'Error' }] },
    { events: [...passing, { kind: 'uncaught', origin: 'unhandledRejection', text: 'Error' }] },
    { events: [...passing, { kind: 'lingering', resources: [] }] },
    { events: [{ kind: 'narrowed', name: 'a' }, ...passing] },
    { events: passing.map((event) => (event.kind === 'passed' ? { ...event, kind: 'failed' as const } : event)) },
  ];
  for (const deviation of deviations) {
    const { failed } = judge(observe(deviation));
    assert.is(failed, 1, JSON.stringify(deviation));
  }
});

test('a file of which every test is skipped passes, and says so', () => {
  const { failed, skipped } = judge(observe({ events: [{ kind: 'skipped', name: 'a' }, { kind: 'finished' }] }));
  assert.is(failed, 0);
  assert.is(skipped, 1);
});

test('directives: defaults, limits, and one limit standing for both', () => {
  assert.equal(readDirectives('import x from "y";'), {
    fileLimitMs: defaultFileLimitMs,
    testLimitMs: defaultTestLimitMs,
    alone: false,
  });
  assert.equal(readDirectives('// time-limit: 300 s\n// alone\n'), {
    fileLimitMs: 300_000,
    testLimitMs: 300_000,
    alone: true,
  });
  assert.is(readDirectives('// time-limit: 300 s\n// test-time-limit: 20 s\n').testLimitMs, 20_000);
});

test('directives: a limit that cannot be understood is an error', () => {
  for (const line of ['// time-limit: 5 min', '// time-limit 300 s', '// time-limit: 0 s', '// test-time-limit:']) {
    assert.throws(
      () => readDirectives(line),
      (error: unknown) => error instanceof DirectiveError,
    );
  }
});

test.run();
