/**
 * Entry of the program: reads the command line, runs one command, turns errors into one line and an exit code.
 *
 * Exit codes: 0 the command ran; 1 what it checks does not hold; 2 a usage or environment error.
 */
import { CommanderError } from 'commander';
import { createProgram } from './program.ts';
import { reportFailure } from './report-failure.ts';

try {
  await createProgram().parseAsync(process.argv);
} catch (error) {
  if (error instanceof CommanderError) {
    // Commander has printed its message, or the help that was asked for.
    process.exitCode = error.exitCode === 0 ? 0 : 2;
  } else {
    // Not by running out of work: the channel to a parent, or a half-started part, may keep the process alive.
    process.exit(await reportFailure(error));
  }
}
