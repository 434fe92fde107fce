/**
 * HTTP of a node: status, accounts, metrics, JSON-RPC and a stream of events. Binds to loopback unless configured
 * otherwise. Nothing here holds a key: what changes the ledger comes signed.
 */
import Fastify, { type FastifyInstance } from 'fastify';
import { Gauge, Registry } from 'prom-client';
import { type AccountId, accountFromAddress, addressOf, InvalidAccountError } from '../chain/account.ts';
import { addEventStream } from './rpc/event-stream.ts';
import { addJsonRpc, type RpcLog } from './rpc/json-rpc.ts';
import type { RpcContext } from './rpc/methods.ts';
import type { NodeStatus } from './status.ts';

/** What the API needs of the node. */
export interface ApiComponents {
  status(): NodeStatus;
  /** Balance in units and next nonce of an account; zero for one that the ledger does not know. */
  account(account: AccountId): { readonly balance: bigint; readonly registrationBond: bigint; readonly nonce: number };
  readonly rpc: RpcContext;
  readonly log: RpcLog;
}

export interface ApiInit {
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
}

/** Answer of `/accounts/ADDRESS`. */
export interface AccountStatus {
  readonly address: string;
  /** Units, as a decimal string. */
  readonly balance: string;
  /** Units held for its registration as a miner, as a decimal string. */
  readonly registrationBond: string;
  readonly nonce: number;
}

/** Requests are short and carry no body; anything larger is not meant for us. */
const MAX_BODY_BYTES = 16 * 1024;

/** Thrown when the API's port cannot be taken. */
export class ApiPortError extends Error {
  static readonly code = 'ERR_API_PORT';
  readonly code = ApiPortError.code;
  override readonly name = 'ApiPortError';
}

/** Names and addresses of this machine to itself. */
function isLoopback(host: string): boolean {
  return /^(localhost|127(\.\d+){3}|\[?::1\]?)$/.test(host);
}

export class ApiServer {
  readonly #init: ApiInit;
  readonly #components: ApiComponents;
  readonly #server: FastifyInstance;
  #url = '';

  constructor(init: ApiInit, components: ApiComponents) {
    this.#init = init;
    this.#components = components;
    this.#server = Fastify({ bodyLimit: MAX_BODY_BYTES, requestTimeout: 10_000, forceCloseConnections: true });
  }

  /** Base address once started, such as `http://127.0.0.1:4100`. */
  get url(): string {
    return this.#url;
  }

  /** Throws {@link ApiPortError} when the port is taken. */
  async start(): Promise<void> {
    const { host, port } = this.#init;
    await this.#routes();
    try {
      this.#url = await this.#server.listen({ host, port });
    } catch (cause) {
      throw new ApiPortError(
        `cannot serve the status page on ${host}:${port} (${(cause as Error).message}): choose another --api-port, or 0 for any free one`,
        { cause },
      );
    }
  }

  async stop(): Promise<void> {
    await this.#server.close();
  }

  async #routes(): Promise<void> {
    const server = this.#server;
    const { rpc, log } = this.#components;
    if (isLoopback(this.#init.host)) {
      // A web site whose name is made to resolve to this machine would otherwise be "of the same origin".
      server.addHook('onRequest', async (request, reply) => {
        if (!isLoopback(request.hostname))
          await reply.code(403).send({ error: 'this address serves its machine only' });
      });
    }
    await addEventStream(server, rpc.chain);
    addJsonRpc(server, rpc, log);
    server.get('/status', () => this.#components.status());
    server.get<{ Params: { address: string } }>('/accounts/:address', (request, reply) => {
      try {
        const account = accountFromAddress(request.params.address);
        const { balance, registrationBond, nonce } = this.#components.account(account);
        return {
          address: addressOf(account),
          balance: balance.toString(),
          registrationBond: registrationBond.toString(),
          nonce,
        } satisfies AccountStatus;
      } catch (error) {
        if (!(error instanceof InvalidAccountError)) throw error;
        return reply.code(400).send({ error: error.message, code: error.code });
      }
    });
    const registry = this.#metrics();
    server.get('/metrics', async (_, reply) => reply.type(registry.contentType).send(await registry.metrics()));
  }

  /** Metrics are read from the status when they are asked for, so that they can never disagree with it. */
  #metrics(): Registry {
    const registry = new Registry();
    const gauges: readonly [name: string, help: string, read: (status: NodeStatus) => number | null][] = [
      ['alice_height', 'Height of the last finalized block', ({ chain }) => chain.height],
      ['alice_round', 'Training round that is open', ({ training }) => training.round],
      ['alice_seats', 'Seats of the open round', ({ training }) => training.seats],
      ['alice_waiting_for_seats', 'Accounts in line for a seat', ({ training }) => training.waitingForSeats],
      ['alice_peers', 'Connected peers', ({ peers }) => peers],
      ['alice_waiting_transactions', 'Transactions in the mempool', ({ chain }) => chain.waitingTransactions],
      ['alice_sent_bytes', 'Bytes sent since the start', ({ bytesSent }) => bytesSent],
      ['alice_received_bytes', 'Bytes received since the start', ({ bytesReceived }) => bytesReceived],
      ['alice_resident_bytes', 'Resident memory of the process', ({ residentBytes }) => residentBytes],
      [
        'alice_held_out_loss_nats',
        'Held-out loss of the last settled round',
        ({ training }) => training.rounds.at(-1)?.heldOutLoss ?? null,
      ],
      ['alice_tokens_per_second', 'Speed of the last piece of work', ({ work }) => work.tokensPerSecond],
    ];
    for (const [name, help, read] of gauges) {
      const components = this.#components;
      new Gauge({
        name,
        help,
        registers: [registry],
        collect() {
          const value = read(components.status());
          if (value === null) this.remove();
          else this.set(value);
        },
      });
    }
    return registry;
  }
}
