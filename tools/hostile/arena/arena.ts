/**
 * Where attacks take place: two validators, each of which is needed for every block, one of them the victim; an honest
 * peer; all in processes of their own, with real sockets, disk and keys, and without a model.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { voteParameters } from '../../../node/chain/calls.ts';
import { type Genesis, type NetworkFile, networkName } from '../../../node/chain/genesis.ts';
import { createIdentity, type Identity } from '../../../node/identity/identity.ts';
import type { PeerIdText } from '../../../node/network/interface.ts';
import { testGenesis, testParameters } from '../../../test/ledger/harness.ts';
import { delayingProxy } from './delaying-proxy.ts';
import type { HonestOffers, HonestSetup } from './honest-process.ts';
import type { NodeOffers, NodeSetup } from './node-process.ts';
import { type Offers, ProcessLine } from './process-line.ts';

/** Time for a process to be ready: several load Node, libp2p and WebAssembly on a machine that is busy. */
const READY_MS = 90_000;

/** Pause between two honest transactions. */
const TRANSACTION_MS = 400;

/** Bytes of the blob that the victim holds: two chunks, so that it is not the special case of one. */
const BLOB_BYTES = 1024 * 1024 + 300 * 1024;

/** A process of the arena. */
export class Member<Remote extends Offers<Remote>> {
  readonly name: string;
  readonly child: ChildProcess;
  readonly line: ProcessLine<Remote>;
  readonly #ended: Promise<unknown>;

  private constructor(name: string, child: ChildProcess, line: ProcessLine<Remote>) {
    this.name = name;
    this.child = child;
    this.line = line;
    this.#ended = once(child, 'exit');
  }

  /** Starts `file` with one argument and resolves when it says that it is ready. Its output goes to a file in `dir`. */
  static async start<Remote extends Offers<Remote>>(
    name: string,
    file: string,
    setup: object,
    dir: string,
    offers: Readonly<Record<string, (argument: never) => Promise<unknown>>> = {},
    started: (child: ChildProcess) => void = () => {},
  ): Promise<Member<Remote>> {
    await mkdir(dir, { recursive: true });
    const child = fork(fileURLToPath(new URL(file, import.meta.url)), [JSON.stringify(setup)], {
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      serialization: 'advanced',
      execArgv: ['--expose-gc'],
    });
    started(child);
    const output = createWriteStream(join(dir, `${name}.log`), { flags: 'a' });
    child.stdout?.pipe(output, { end: false });
    child.stderr?.pipe(output, { end: false });
    const ready = Promise.withResolvers<void>();
    const line = new ProcessLine<Remote>(child, { ...offers, ready: async () => ready.resolve() });
    const member = new Member<Remote>(name, child, line);
    const timer = setTimeout(() => ready.reject(new Error(`${name} was not ready in ${READY_MS / 1000} s`)), READY_MS);
    child.once('exit', (code, signal) => ready.reject(new Error(`${name} ended (${code ?? signal}); see ${dir}`)));
    try {
      await ready.promise;
    } catch (error) {
      child.kill('SIGKILL');
      throw error;
    } finally {
      clearTimeout(timer);
    }
    return member;
  }

  get alive(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  async end(): Promise<void> {
    if (!this.alive) return;
    this.child.kill('SIGKILL');
    await this.#ended;
  }
}

/** What can be chosen about an arena. */
export interface ArenaOptions {
  readonly seed: number;
  /** Milliseconds that the two validators are away from each other; attackers and honest peers are near. */
  readonly apartMs: number;
}

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

/** See the head of this file. */
export class Arena {
  readonly options: ArenaOptions;
  readonly dir: string;
  readonly genesis: Genesis;
  readonly ports: readonly [victim: number, other: number];
  readonly accounts: readonly [victim: Identity, other: Identity];
  /** CID of a blob that the victim holds and serves, and one that only the other validator has. */
  cid = '';
  otherCid = '';
  victimPeer = '' as PeerIdText;
  otherPeer = '' as PeerIdText;
  readonly #closers: (() => Promise<void>)[] = [];
  #victim: Member<NodeOffers> | undefined;
  #other: Member<NodeOffers> | undefined;
  #honest: Member<HonestOffers> | undefined;
  #observers = 0;
  #stopped = false;

  private constructor(
    options: ArenaOptions,
    dir: string,
    genesis: Genesis,
    ports: readonly [number, number],
    accounts: readonly [Identity, Identity],
  ) {
    this.options = options;
    this.dir = dir;
    this.genesis = genesis;
    this.ports = ports;
    this.accounts = accounts;
  }

  /** Starts everything; blocks are being made when it resolves. */
  static async open(options: ArenaOptions): Promise<Arena> {
    const dir = await mkdtemp(join(tmpdir(), 'alice-hostile-'));
    const accounts: readonly [Identity, Identity] = [
      await createIdentity(join(dir, 'victim', 'keys')),
      await createIdentity(join(dir, 'other', 'keys')),
    ];
    const ports: readonly [number, number] = [await freePort(), await freePort()];
    const founders = accounts.map(({ account, sessionKey }) => ({ account, sessionKey, weight: 10n }));
    // Registrations cost work, as they do outside of tests.
    const parameters = testParameters({ consensus: { emptyBlockIntervalMs: 500 }, registration: { baseWork: 64 } });
    const drawn = { ...testGenesis(founders, parameters), timeMs: Date.now() };
    const genesis: Genesis = {
      ...drawn,
      validators: drawn.validators.map((validator, index) => ({
        ...validator,
        certificate: Buffer.from(accounts[index]?.certificate() ?? []).toString('hex'),
      })),
    };
    const arena = new Arena(options, dir, genesis, ports, accounts);
    try {
      await arena.#start();
    } catch (error) {
      await arena.close();
      throw error;
    }
    return arena;
  }

  async #start(): Promise<void> {
    const { apartMs } = this.options;
    let shown = this.ports;
    if (apartMs > 0) {
      const proxies = await Promise.all(this.ports.map((port) => delayingProxy(port, apartMs / 2)));
      for (const proxy of proxies) this.#closers.push(() => proxy.close());
      shown = [proxies[0]?.port ?? 0, proxies[1]?.port ?? 0];
    }
    const start = async (name: 'victim' | 'other', own: 0 | 1, known: 0 | 1) => {
      const networkFile = await this.#networkFile(name, [`/ip4/127.0.0.1/tcp/${shown[known]}`]);
      const announce = apartMs > 0 ? [`/ip4/127.0.0.1/tcp/${shown[own]}`] : [];
      const dir = join(this.dir, name);
      return this.#node(name, { role: 'validator', dir, networkFile, port: this.ports[own], announce });
    };
    [this.#victim, this.#other] = await Promise.all([start('victim', 0, 1), start('other', 1, 0)]);
    const bytes = new Uint8Array(BLOB_BYTES).map((_, index) => (index * 31 + (index >> 8) * 17) & 255);
    this.victimPeer = (await this.victim.ask('look', { collect: false })).peerId;
    this.otherPeer = (await this.other.ask('look', { collect: false })).peerId;
    this.cid = await this.victim.ask('publish', bytes);
    this.otherCid = await this.other.ask(
      'publish',
      bytes.map((byte) => byte ^ 255),
    );
    const setup: HonestSetup = {
      seed: this.options.seed,
      networkName: networkName(this.genesis),
      victim: this.address('victim'),
      victimPeer: this.victimPeer,
      cid: this.cid,
    };
    const honest = await Member.start<HonestOffers>('honest', './honest-process.ts', setup, join(this.dir, 'honest'));
    this.#honest = honest;
    this.#closers.push(() => honest.end());
    void this.#transactions();
    // What is loaded and compiled at first use is no growth under attack.
    await honest.line.ask('newcomer', READY_MS);
  }

  async #networkFile(name: string, bootstrap: readonly string[]): Promise<string> {
    const file = join(this.dir, `${name}.json`);
    await writeFile(file, JSON.stringify({ genesis: this.genesis, bootstrap: [...bootstrap] } satisfies NetworkFile));
    return file;
  }

  async #node(name: string, setup: NodeSetup): Promise<Member<NodeOffers>> {
    const member = await Member.start<NodeOffers>(name, './node-process.ts', setup, join(this.dir, name));
    this.#closers.push(() => member.end());
    return member;
  }

  /** Honest transactions, one after the other; a node that is gone ends it. */
  async #transactions(): Promise<void> {
    // What a founder can do before there is any ALICE, as often as it likes: change its mind about a parameter. One of two
    // founders has no quorum, so nothing comes of it.
    for (let epochMs = 60_001; !this.#stopped && this.alive; epochMs++) {
      try {
        await new Promise((resolve) => setTimeout(resolve, TRANSACTION_MS));
        const { height } = await this.other.ask('look', { collect: false });
        const call = voteParameters({ economics: { epochMs } }, height + 1_000_000);
        this.transactionTimes.push(await this.other.ask('send', call));
      } catch (error) {
        this.transactionFailures.push((error as Error).message);
      }
    }
  }

  /** Milliseconds until a block held each honest transaction, and what failed, since {@link resetHonest}. */
  readonly transactionTimes: number[] = [];
  readonly transactionFailures: string[] = [];

  async resetHonest(): Promise<void> {
    this.transactionTimes.length = 0;
    this.transactionFailures.length = 0;
    await this.honest.ask('reset', null);
  }

  get victim(): ProcessLine<NodeOffers> {
    if (this.#victim === undefined) throw new Error('the victim does not run');
    return this.#victim.line;
  }

  get other(): ProcessLine<NodeOffers> {
    if (this.#other === undefined) throw new Error('the other validator does not run');
    return this.#other.line;
  }

  get honest(): ProcessLine<HonestOffers> {
    if (this.#honest === undefined) throw new Error('the honest peer does not run');
    return this.#honest.line;
  }

  /** False once a node has ended: attacks may do much, but not that. */
  get alive(): boolean {
    return this.#victim?.alive === true && this.#other?.alive === true;
  }

  /** Multiaddr with peer id. */
  address(of: 'victim' | 'other'): string {
    const [port, peer] = of === 'victim' ? [this.ports[0], this.victimPeer] : [this.ports[1], this.otherPeer];
    return `/ip4/127.0.0.1/tcp/${port}/p2p/${peer}`;
  }

  /** A node without weight that begins at genesis, knowing only these addresses. End it when done. */
  async observer(bootstrap: readonly string[]): Promise<Member<NodeOffers>> {
    const name = `observer-${this.#observers++}`;
    const dir = join(this.dir, name);
    await createIdentity(join(dir, 'keys'));
    const networkFile = await this.#networkFile(name, bootstrap);
    return this.#node(name, { role: 'bootstrap', dir, networkFile, port: await freePort(), announce: [] });
  }

  /** Last lines of a member's log: for whoever looks into a failure. */
  async log(name: string): Promise<string> {
    return (await readFile(join(this.dir, name, 'alice.log'), 'utf8').catch(() => '')).slice(-2_000);
  }

  /** Ends all processes and removes the folder. */
  async close(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#closers.map((close) => close()));
    await rm(this.dir, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  }
}
