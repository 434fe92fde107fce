/** Validators as real processes that make blocks and nothing else, for tests that disturb them. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { NetworkFile } from '../../node/chain/genesis.ts';
import type { Parameters } from '../../node/chain/parameters.ts';
import { createIdentity, type Identity } from '../../node/identity/identity.ts';
import { testGenesis, testParameters } from '../ledger/harness.ts';
import type { ValidatorOrder, ValidatorReport } from './validator-process.ts';

const CHILD = fileURLToPath(new URL('./validator-process.ts', import.meta.url));

/** Empty blocks come three times a second: a test waits for heights. */
const LOCAL_PARAMETERS = testParameters({ consensus: { emptyBlockIntervalMs: 300 } });

type BlockReport = Extract<ValidatorReport, { type: 'block' }>;

/** A free TCP port, given back at once. */
async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

/** One validator: its keys and folder, and the process that runs now, if any. */
export class TestValidator {
  readonly identity: Identity;
  readonly dir: string;
  readonly port: number;
  readonly #network: ValidatorNetwork;
  #process: ChildProcess | undefined;
  #ended: Promise<unknown> = Promise.resolve();
  /** Highest height that it reported. */
  height = 0;

  constructor(network: ValidatorNetwork, identity: Identity, dir: string, port: number) {
    this.#network = network;
    this.identity = identity;
    this.dir = dir;
    this.port = port;
  }

  /** Starts a process and resolves when its node runs. */
  async start(env: Readonly<Record<string, string>> = {}): Promise<void> {
    const child = fork(CHILD, [this.dir, this.#network.file, String(this.port)], {
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      env: { ...process.env, ...env },
    });
    const output = createWriteStream(join(this.dir, 'output.log'), { flags: 'a' });
    child.stdout?.pipe(output, { end: false });
    child.stderr?.pipe(output, { end: false });
    this.#process = child;
    this.#ended = once(child, 'exit');
    await new Promise<void>((resolve, reject) => {
      child.on('message', (message: ValidatorReport) => {
        this.height = Math.max(this.height, message.height);
        if (message.type === 'ready') resolve();
        else this.#network.take(this, message);
        this.#network.wake();
      });
      child.once('exit', (code, signal) => reject(new Error(`${this.dir} ended (${code ?? signal})`)));
    });
  }

  signal(signal: NodeJS.Signals): void {
    this.#process?.kill(signal);
  }

  /** Sends a signal that ends the process, and resolves when it is gone. */
  async end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    // A stopped process hears nothing but SIGKILL.
    this.#process?.kill(signal);
    await this.#ended;
    this.#process = undefined;
  }

  order(order: ValidatorOrder): void {
    this.#process?.send(order);
  }

  log(): Promise<string> {
    return readFile(join(this.dir, 'output.log'), 'utf8');
  }
}

/** See the head of this file. */
export class ValidatorNetwork {
  readonly dir: string;
  readonly file: string;
  readonly validators: TestValidator[] = [];
  /** First report of each height; all others have to say the same. */
  readonly blocks = new Map<number, BlockReport>();
  /** What must not be, in words. */
  readonly disagreements: string[] = [];
  #watchers = new Set<() => void>();

  private constructor(dir: string) {
    this.dir = dir;
    this.file = join(dir, 'network.json');
  }

  /** Makes keys and a genesis that names the first `founders` of them; nothing runs yet. */
  static async create(
    count: number,
    { founders: named = count, parameters = LOCAL_PARAMETERS }: { founders?: number; parameters?: Parameters } = {},
  ): Promise<ValidatorNetwork> {
    const network = new ValidatorNetwork(await mkdtemp(join(tmpdir(), 'alice-validators-')));
    for (let index = 1; index <= count; index++) {
      const dir = join(network.dir, `validator-${index}`);
      const identity = await createIdentity(join(dir, 'keys'));
      network.validators.push(new TestValidator(network, identity, dir, await freePort()));
    }
    const founders = network.validators.slice(0, named).map(({ identity: { account, sessionKey } }) => ({
      account,
      sessionKey,
      weight: 10n,
    }));
    const genesis = { ...testGenesis(founders, parameters), timeMs: Date.now() };
    for (const [index, { identity }] of network.validators.slice(0, named).entries())
      genesis.validators[index].certificate = Buffer.from(identity.certificate()).toString('hex');
    const bootstrap = network.validators.map(({ port }) => `/ip4/127.0.0.1/tcp/${port}`);
    await writeFile(network.file, JSON.stringify({ genesis, bootstrap } satisfies NetworkFile));
    return network;
  }

  take(validator: TestValidator, block: BlockReport): void {
    const known = this.blocks.get(block.height);
    if (known === undefined) this.blocks.set(block.height, block);
    else if (known.id !== block.id || known.stateRoot !== block.stateRoot)
      this.disagreements.push(`${validator.dir} differs at height ${block.height}`);
  }

  wake(): void {
    for (const watcher of [...this.#watchers]) watcher();
  }

  /** Resolves when the condition holds, looking at it after each report. */
  async until(what: string, condition: () => boolean, limitMs: number): Promise<void> {
    if (condition()) return;
    await new Promise<void>((resolve, reject) => {
      const settle = (act: () => void) => {
        clearTimeout(timer);
        this.#watchers.delete(check);
        act();
      };
      const check = () => condition() && settle(resolve);
      const heights = () => this.validators.map(({ height }) => height).join(', ');
      const timer = setTimeout(
        () => settle(() => reject(new Error(`${what}: not within ${limitMs} ms; heights ${heights()}`))),
        limitMs,
      );
      this.#watchers.add(check);
    });
  }

  get height(): number {
    return Math.max(...this.validators.map(({ height }) => height));
  }

  /** Resolves when each of the validators has made `blocks` more blocks final than any had. */
  progress(blocks: number, limitMs: number, among: readonly TestValidator[] = this.validators): Promise<void> {
    const target = this.height + blocks;
    return this.until(`height ${target}`, () => among.every(({ height }) => height >= target), limitMs);
  }

  /** Ends everything and removes the folder. */
  async destroy(): Promise<void> {
    await Promise.all(this.validators.map((validator) => validator.end('SIGKILL')));
    await rm(this.dir, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  }
}
