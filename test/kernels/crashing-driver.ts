/** A driver that crashes, for the test of the probe: takes its process down in the middle of the work. */
process.once('message', () => {
  process.stderr.write('the driver says its last words\n');
  process.kill(process.pid, 'SIGSEGV');
});
