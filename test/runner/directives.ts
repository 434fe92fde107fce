/**
 * What a test file says about how it wants to be run, in line comments of its own:
 *
 *     // time-limit: 300 s         longest time for the whole file; without it, defaultFileLimitMs
 *     // test-time-limit: 20 s     longest time for one test or hook; without it, see readDirectives
 *     // alone                     no other test file runs at the same time
 */

/** A file that says nothing may take this long: four times what a file should take, for a busy machine. */
export const defaultFileLimitMs = 120_000;

/** A test may take this long, unless its file says something. */
export const defaultTestLimitMs = 60_000;

/** How to run one test file. */
export interface Directives {
  fileLimitMs: number;
  testLimitMs: number;
  alone: boolean;
}

/** A directive that cannot be understood; a misspelt one must not pass for a comment. */
export class DirectiveError extends Error {
  static readonly code = 'ERR_TEST_DIRECTIVE';
  readonly code = DirectiveError.code;

  constructor(line: string) {
    super(
      `not a directive of the test runner: "${line.trim()}"; write for example "// time-limit: 300 s" or "// alone"`,
    );
    this.name = 'DirectiveError';
  }
}

const limitLine = /^\/\/\s*(test-)?time-limit\b(.*)$/;

/**
 * Reads the directives out of a test file's text. Where the file sets its own limit and none for its tests, one test
 * may use all of it. Throws {@link DirectiveError}.
 */
export function readDirectives(source: string): Directives {
  let fileLimitMs: number | undefined;
  let testLimitMs: number | undefined;
  let alone = false;
  for (const line of source.split('\n')) {
    if (/^\/\/\s*alone\s*$/.test(line)) alone = true;
    const limit = limitLine.exec(line);
    if (limit === null) continue;
    const seconds = /^:\s*(\d+)\s*s\s*$/.exec(limit[2] ?? '');
    if (seconds === null || Number(seconds[1]) === 0) throw new DirectiveError(line);
    const milliseconds = Number(seconds[1]) * 1000;
    if (limit[1] === undefined) fileLimitMs = milliseconds;
    else testLimitMs = milliseconds;
  }
  return {
    fileLimitMs: fileLimitMs ?? defaultFileLimitMs,
    testLimitMs: testLimitMs ?? fileLimitMs ?? defaultTestLimitMs,
    alone,
  };
}
