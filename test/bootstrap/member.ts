/** A member of a network for the supervisor's test: says that it is ready and ends; what it says last comes late. */
import { spawn } from 'node:child_process';

// Whoever holds the other end of standard output gets this after the end of this process.
spawn(process.execPath, ['-e', 'setTimeout(() => console.log("the end"), 300)'], {
  stdio: ['ignore', 'inherit', 'inherit'],
});
process.send?.({ type: 'ready', status: {} }, () => process.exit(0));
