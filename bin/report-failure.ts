/**
 * The last words of a command that failed: one line that says what was wrong and what to do.
 */
import { tellParent } from '../node/api/parent-link.ts';

/** Thrown by a command when what it checks does not hold: exit code 1, not 2. */
export class CheckFailedError extends Error {
  static readonly code = 'ERR_CHECK_FAILED';
  readonly code = CheckFailedError.code;
  override readonly name = 'CheckFailedError';
}

/** Thrown for a flag or argument that makes no sense. */
export class UsageError extends Error {
  static readonly code = 'ERR_USAGE';
  readonly code = UsageError.code;
  override readonly name = 'UsageError';
}

/** What to do about errors of the operating system, by their code. */
const ADVICE: Readonly<Record<string, string>> = {
  EACCES: 'choose another folder with --dir, or change its permissions',
  EPERM: 'choose another folder with --dir, or change its permissions',
  EROFS: 'the file system is read-only: choose another folder with --dir',
  ENOSPC: 'the disk is full: free some space or choose another folder with --dir',
  ENOTDIR: 'a part of that path is a file: choose another folder with --dir',
  EADDRINUSE: 'the port is taken: choose another one, or 0 for any free port',
};

const codeOf = (error: unknown): string =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';

/**
 * Prints the error to standard error and returns the exit code. Errors with a code are expected ones and get one line;
 * anything else is a defect of this program and is shown with its stack. A parent process is told as well.
 */
export async function reportFailure(error: unknown): Promise<number> {
  const code = codeOf(error);
  const message = error instanceof Error ? error.message : String(error);
  const advice = ADVICE[code];
  const line = advice === undefined ? message : `${message}: ${advice}`;
  if (code !== '') {
    process.stderr.write(`alice: ${line}\n`);
  } else {
    const stack = error instanceof Error ? error.stack : message;
    process.stderr.write(`alice: unexpected error, please report it\n${stack}\n`);
  }
  await tellParent({ type: 'failed', code: code === '' ? 'ERR_UNEXPECTED' : code, message: line });
  return error instanceof CheckFailedError ? 1 : 2;
}
