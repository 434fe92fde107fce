import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Member, Supervisor } from '../../bootstrap/local/supervisor.ts';

// The supervisor starts this program again: here that is a member made for the test.
process.argv[1] = fileURLToPath(new URL('./member.ts', import.meta.url));

let base = '';
test.before.each(async () => {
  base = await mkdtemp(join(tmpdir(), 'alice-supervisor-'));
});
test.after.each(async () => {
  await rm(base, { recursive: true, force: true });
});

const member = (name: string): Member => ({ name, role: 'miner', arguments: ['miner'], dir: join(base, name) });

test('what a member says with its last breath is kept', async () => {
  const supervisor = new Supervisor();
  const gone = new Promise<string>((resolve) => supervisor.on('notice', resolve));
  await supervisor.start(member('one'));
  assert.match(await gone, /one exited with code 0; starting it again/);
  await supervisor.stop();
  const path = join(base, 'one', 'output.log');
  let text = '';
  for (let look = 0; look < 100 && !text.endsWith('the end\n'); look++) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    text = await readFile(path, 'utf8');
  }
  assert.ok(text.endsWith('the end\n'), `${text.length} characters were kept`);
});

test('nothing is started once the end is wanted', async () => {
  const supervisor = new Supervisor();
  const refused = async (options: { signal?: AbortSignal }, stop: boolean) => {
    const starting = supervisor.start(member('two'), options);
    if (stop) await supervisor.stop();
    try {
      await starting;
      assert.unreachable();
    } catch (error) {
      assert.is((error as { code?: string }).code, 'ERR_MEMBER_FAILED');
    }
    assert.is(supervisor.members()[0].state, 'stopped');
  };
  await refused({ signal: AbortSignal.abort() }, false);
  await refused({}, true);
});

test.run();
