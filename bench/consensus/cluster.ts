/** Validators on machines of their own, joined by a network that takes 50 ms for everything. */
import type { AccountId } from '../../node/chain/account.ts';
import { MAX_BLOCK_BYTES } from '../../node/chain/block.ts';
import type { SessionKey, Validator } from '../../node/chain/validator-set.ts';
import { silentLogger } from '../../node/consensus/logger.ts';
import { type ConsensusInit, ConsensusService } from '../../node/consensus/service.ts';
import type { AppendFile, Directory } from '../../node/consensus/storage.ts';
import { sessionSigner } from '../../node/identity/signatures.ts';
import { Ignore, type PeerIdText, type RequestHandler, type Topic } from '../../node/network/interface.ts';
import { BenchApplication } from './application.ts';
import { Machine, Machines } from './machines.ts';
import type { TransactionSupply } from './transactions.ts';

/** One way, for every message. */
const DELAY_MS = 50;
/** What one synced write to the log takes; virtual, there is no disk. */
const SYNC_MS = 1;
/** Transactions come in batches this far apart. */
const BATCH_MS = 20;
/** The share of its core that a machine spends on verifying transactions: as many are offered as fit into it. */
export const TRANSACTION_CPU_SHARE = 0.8;

const NETWORK_ID = new Uint8Array(8).fill(5);

/** Timeouts of a real network (DESIGN 5), and no pause between blocks: as fast as it goes. */
const PARAMETERS: ConsensusInit['parameters'] = {
  proposeTimeoutMs: 3000,
  proposeTimeoutDeltaMs: 500,
  prevoteTimeoutMs: 1000,
  prevoteTimeoutDeltaMs: 500,
  precommitTimeoutMs: 1000,
  precommitTimeoutDeltaMs: 500,
  blockIntervalMs: 1,
  emptyBlockIntervalMs: 1,
  clockDriftMs: 1000,
  maxTransactionsPerBlock: 100_000,
};

function memoryDirectory(machine: Machine): Directory {
  const sync = () => new Promise<void>((resolve) => machine.schedule(SYNC_MS, resolve));
  const file = (): AppendFile => ({
    // What a start reads: an empty folder. Nothing starts twice here.
    read: async () => new Uint8Array(),
    append: async () => {},
    sync,
    truncate: async () => {},
    close: async () => {},
  });
  return {
    open: async () => file(),
    replace: async () => {
      await sync();
      return file();
    },
  };
}

/** What one run showed. */
export interface ClusterResult {
  /** Virtual seconds between two blocks, on average. */
  readonly blockSeconds: number;
  readonly transactionsPerSecond: number;
  /** Processor time of one validator for one block, on average. */
  readonly cpuMsPerBlock: number;
  /** Blocks decided in another round than the first. */
  readonly laterRounds: number;
  readonly blocks: number;
}

/** Runs `validators` machines for some blocks after two to warm up. */
export async function runCluster(
  { validators: count, blocks, supply }: { validators: number; blocks: number; supply: TransactionSupply | undefined },
  signal: AbortSignal,
): Promise<ClusterResult> {
  const machines = new Machines(1_800_000_000_000);
  const names = Array.from({ length: count }, (_, index) => (index + 1).toString(16).padStart(4, '0').repeat(16));
  const sessions = names.map((name) => sessionSigner(Buffer.from(name, 'hex')));
  const set: Validator[] = names.map((name, index) => ({
    account: name as AccountId,
    sessionKey: sessions[index].sessionKey as SessionKey,
    power: 10n,
  }));
  const nodes = names.map((name) => ({
    peer: name as string as PeerIdText,
    machine: new Machine(machines),
    application: new BenchApplication(NETWORK_ID, set, MAX_BLOCK_BYTES),
    topics: new Map<Topic, (data: Uint8Array, from: PeerIdText) => unknown>(),
    protocols: new Map<string, RequestHandler>(),
  }));
  type Node = (typeof nodes)[number];
  const deliver = (to: Node, topic: Topic, data: Uint8Array, from: PeerIdText) => {
    try {
      to.topics.get(topic)?.(data, from);
    } catch (error) {
      if (!(error instanceof Ignore)) throw error;
    }
  };
  const ask = (from: Node, to: PeerIdText, name: string, request: Uint8Array) =>
    new Promise<Uint8Array>((resolve, reject) => {
      const server = nodes.find(({ peer }) => peer === to);
      const handler = server?.protocols.get(name);
      if (server === undefined || handler === undefined) return reject(new Error('refused'));
      machines.schedule(server.machine, DELAY_MS, () => {
        const back = (callback: () => void) => machines.schedule(from.machine, DELAY_MS, callback);
        handler(request, from.peer).then(
          (answer) => back(() => resolve(answer)),
          (error: unknown) => back(() => reject(error)),
        );
      });
    });
  const services = nodes.map((node, index) => {
    const { machine, application, topics, protocols, peer } = node;
    const others = nodes.filter((other) => other !== node);
    return new ConsensusService(
      {
        networkId: NETWORK_ID,
        parameters: PARAMETERS,
        signer: {
          // The beacon's proof is not verified here: one sr25519 operation a block, 2 ms, which the figures lack.
          account: {
            account: set[index].account,
            sign: () => new Uint8Array(64),
            prove: () => new Uint8Array(96).fill(index),
          },
          session: sessions[index],
        },
        directory: memoryDirectory(machine),
      },
      {
        application,
        gossip: {
          publish: async (topic, data) => {
            for (const other of others)
              machines.schedule(other.machine, DELAY_MS, () => deliver(other, topic, data, peer));
          },
          subscribe: (topic, handler) => {
            topics.set(topic, handler);
            return () => topics.delete(topic);
          },
        },
        requests: {
          handle: async (name, _limits, handler) => {
            protocols.set(name, handler);
          },
          request: (to, name, request) => ask(node, to, name, request),
        },
        discovery: { peers: () => others.map((other) => other.peer) },
        logger: silentLogger,
        clock: machine,
      },
    );
  });
  let next = 0;
  const offer = (given: TransactionSupply) => {
    const batch = Math.max(1, Math.round((BATCH_MS * TRANSACTION_CPU_SHARE) / given.verifyMs));
    const arriving = given.transactions.slice(next, next + batch);
    next += batch;
    for (const { machine, application } of nodes) {
      machines.schedule(machine, DELAY_MS, () => {
        // Verifying is work of each machine, and was measured once for all.
        machine.charge(given.verifyMs * arriving.length);
        for (const { id, encoded } of arriving) application.add(id, encoded);
      });
    }
    source.schedule((batch * given.verifyMs) / TRANSACTION_CPU_SHARE, () => offer(given));
  };
  /** Where transactions come from: no validator. */
  const source = new Machine(machines);
  if (supply !== undefined) offer(supply);
  for (const [index, service] of services.entries())
    machines.schedule(nodes[index].machine, 0, () => void service.start());
  const [first] = nodes;
  const reached = (height: number) => () => first.application.height >= height;
  const cpuMs = () => nodes.reduce((sum, { machine }) => sum + machine.cpuMs, 0);
  const warmup = 2;
  if (!(await machines.runUntil(reached(warmup), 600_000, signal))) throw new Error('no block came');
  const start = { cpuMs: cpuMs(), nowMs: machines.nowMs };
  if (!(await machines.runUntil(reached(warmup + blocks), 600_000, signal))) throw new Error('the blocks ended');
  const seconds = (machines.nowMs - start.nowMs) / 1000;
  const decided = first.application.blocks.slice(warmup);
  const included = decided.reduce((sum, { block }) => sum + block.transactions.length, 0);
  return {
    blockSeconds: seconds / decided.length,
    transactionsPerSecond: included / seconds,
    cpuMsPerBlock: (cpuMs() - start.cpuMs) / count / decided.length,
    laterRounds: decided.filter(({ commit }) => commit.round > 0).length,
    blocks: decided.length,
  };
}

/** Network of all runs: transactions are signed for it. */
export const BENCH_NETWORK_ID = NETWORK_ID;
