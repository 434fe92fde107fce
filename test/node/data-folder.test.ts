import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { DataFolder } from '../../node/data-folder.ts';

const MODULE = fileURLToPath(new URL('../../node/data-folder.ts', import.meta.url));

let base = '';
test.before.each(async () => {
  base = await mkdtemp(join(tmpdir(), 'alice-folder-'));
});
test.after.each(async () => {
  await rm(base, { recursive: true, force: true });
});

/** A process that opens the folder, says so, and stays. */
async function holder(dir: string) {
  const code = `import(${JSON.stringify(MODULE)}).then(async ({ DataFolder }) => {
    await DataFolder.open(${JSON.stringify(dir)});
    console.log('open');
    setInterval(() => {}, 1000);
  });`;
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', '-e', code], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  await new Promise<void>((resolve, reject) => {
    child.stdout.once('data', () => resolve());
    child.once('exit', () => reject(new Error('the holder ended')));
  });
  return { child, ended };
}

test('one process at a time; a killed one holds nothing', async () => {
  const dir = join(base, 'node');
  const { child, ended } = await holder(dir);
  try {
    await DataFolder.open(dir);
    assert.unreachable('opened twice');
  } catch (error) {
    assert.is((error as { code?: string }).code, 'ERR_DATA_FOLDER_IN_USE');
    assert.match((error as Error).message, new RegExp(`process ${child.pid} `));
  }
  child.kill('SIGKILL');
  await ended;
  const folder = await DataFolder.open(dir);
  await folder.release();
});

test('a lock whose process number went to another process is taken over', async () => {
  if (process.platform !== 'linux') return;
  await writeFile(join(base, 'node.lock'), `${process.ppid} 1`);
  const folder = await DataFolder.open(base);
  assert.match(await readFile(join(base, 'node.lock'), 'utf8'), new RegExp(`^${process.pid} `));
  await folder.release();
});

test('a lock that is just being written is not taken over; one left empty by a crash is', async () => {
  if (process.platform !== 'linux') return;
  const lock = join(base, 'node.lock');
  await writeFile(lock, '');
  const opening = DataFolder.open(base);
  const stat = await readFile(`/proc/${process.ppid}/stat`, 'utf8');
  const started = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  // Long enough to be seen empty.
  await new Promise((resolve) => setTimeout(resolve, 300));
  await writeFile(lock, `${process.ppid} ${started}`);
  try {
    await opening;
    assert.unreachable('taken over');
  } catch (error) {
    assert.is((error as { code?: string }).code, 'ERR_DATA_FOLDER_IN_USE');
  }
  await writeFile(lock, '');
  const folder = await DataFolder.open(base);
  assert.match(await readFile(lock, 'utf8'), new RegExp(`^${process.pid} `));
  await folder.release();
});

test('a folder that cannot be: a typed error that says what to do', async () => {
  await writeFile(join(base, 'file'), '');
  try {
    await DataFolder.open(join(base, 'file', 'node'));
    assert.unreachable();
  } catch (error) {
    assert.is((error as { code?: string }).code, 'ERR_DATA_FOLDER');
    assert.match((error as Error).message, /--dir/);
  }
});

test.run();
