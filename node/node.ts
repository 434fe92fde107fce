/**
 * One running peer: network, blobs, blockchain, consensus and the HTTP API, started and stopped in the right order.
 *
 * Roles build on it; it knows nothing about tensors.
 */
import { ApiServer } from './api/server.ts';
import type { NodeStatus, Role, WorkStatus } from './api/status.ts';
import { version } from './api/version.ts';
import { Announcer } from './blobs/announcer.ts';
import { BlobExchange } from './blobs/exchange.ts';
import { type BlobStore, openBlobStore } from './blobs/store.ts';
import { Blockchain } from './blockchain/blockchain.ts';
import { relayTransactions } from './blockchain/transaction-relay.ts';
import { type SendOptions, TransactionSender } from './blockchain/transaction-sender.ts';
import { genesisHash, type NetworkFile, networkName } from './chain/genesis.ts';
import type { Call } from './chain/transaction.ts';
import { equivocatingGossip } from './consensus/adversary.ts';
import type { TrustedPoint } from './consensus/light-client/trust.ts';
import { ConsensusService } from './consensus/service.ts';
import type { DataFolder } from './data-folder.ts';
import { checkGenesisCertificates } from './identity/genesis-certificates.ts';
import type { Identity } from './identity/identity.ts';
import { signaturesReady } from './identity/signatures.ts';
import type { Logger } from './log/logger.ts';
import { createNetwork, type Network } from './network/network.ts';
import { introductionLedger, PeerIntroduction } from './peer-introduction.ts';
import { RoundHistory } from './round-history.ts';
import { ThreadedVerifier } from './signature-checks/threaded-verifier.ts';
import type { SignatureVerifier } from './signature-checks/verifier.ts';
import { StateSyncServer } from './state-sync/protocol.ts';
import { StateSync } from './state-sync/state-sync.ts';
import { type Retention, Store } from './store/store.ts';

/** What a node is made of. */
export interface NodeOptions {
  readonly role: Role;
  /** Name for people. */
  readonly name: string;
  readonly networkFile: NetworkFile;
  readonly folder: DataFolder;
  readonly identity: Identity;
  /** Multiaddrs to listen on. */
  readonly listen: readonly string[];
  /** Multiaddrs to tell others instead; empty for those listened on. */
  readonly announce: readonly string[];
  readonly maxPeers: number;
  readonly api: { readonly host: string; readonly port: number };
  /** What is kept of the past, and how a node that is far behind begins. Default: everything, from genesis. */
  readonly chain?:
    | {
        readonly retention: Retention;
        /** A block that the operator trusts: with it a recent state is fetched instead of all blocks. */
        readonly trust: TrustedPoint | undefined;
        readonly trustingPeriodMs: number;
      }
    | undefined;
  /** Most bytes of blobs on disk; of those that are not pinned the least recently used go first. */
  readonly blobCapacityBytes: number;
  /** For tests: the node contradicts every vote of its own. */
  readonly equivocate?: boolean;
  readonly log: Logger;
}

/** Thrown when the ledger refused a call of this node. */
export class CallFailedError extends Error {
  static readonly code = 'ERR_CALL_FAILED';
  readonly code = CallFailedError.code;
  override readonly name = 'CallFailedError';
}

/** What a role adds to the status of its node. */
export interface RoleStatus {
  readonly work: WorkStatus;
  readonly weightsRound: number | null;
  readonly weightsRoot: string | null;
}

const NO_ROLE: RoleStatus = {
  work: { activity: 'following the chain', tokensPerSecond: null, trainingLoss: null },
  weightsRound: null,
  weightsRoot: null,
};

/**
 * True when all of a list of multiaddrs are loopback or private, or stand for every interface of this machine: then the
 * DHT has to keep such addresses.
 */
function isPrivate(multiaddrs: readonly string[]): boolean {
  return multiaddrs.every((text) =>
    /^\/(ip4\/(127\.|10\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.|0\.0\.0\.0\/)|ip6\/(::1?\/|f[cd]))/.test(text),
  );
}

export class AliceNode {
  readonly options: NodeOptions;
  readonly store: Store;
  readonly blockchain: Blockchain;
  readonly network: Network;
  readonly blobStore: BlobStore;
  readonly blobs: BlobExchange;
  readonly announcer: Announcer;
  readonly consensus: ConsensusService;
  readonly sender: TransactionSender;
  readonly #verifier: SignatureVerifier;
  readonly #api: ApiServer;
  readonly #rounds: RoundHistory;
  readonly #introduction: PeerIntroduction;
  #roleStatus: () => RoleStatus = () => NO_ROLE;
  #unsubscribe: (() => void)[] = [];

  private constructor(parts: {
    options: NodeOptions;
    store: Store;
    blockchain: Blockchain;
    network: Network;
    blobStore: BlobStore;
    verifier: SignatureVerifier;
  }) {
    const { options, store, blockchain, network, blobStore, verifier } = parts;
    const { identity, log, role } = options;
    this.options = options;
    this.store = store;
    this.blockchain = blockchain;
    this.network = network;
    this.blobStore = blobStore;
    this.#verifier = verifier;
    this.blobs = new BlobExchange(network, blobStore, log.child('blobs'));
    this.announcer = new Announcer(network, log.child('announcer'));
    const { networkId } = blockchain;
    const signer = role === 'validator' ? { account: identity.signer, session: identity.session } : undefined;
    this.#introduction = new PeerIntroduction({
      network,
      networkId,
      ledger: introductionLedger(blockchain),
      session: signer?.session,
      log: log.child('introduction'),
    });
    const cheats = options.equivocate === true && signer !== undefined;
    this.consensus = new ConsensusService(
      {
        networkId,
        parameters: blockchain.genesis.parameters.consensus,
        signer,
        directory: options.folder.join('consensus'),
      },
      {
        application: blockchain,
        gossip: cheats ? equivocatingGossip(network, signer, networkId) : network,
        requests: network,
        discovery: network,
        logger: log.child('consensus'),
      },
    );
    this.sender = new TransactionSender({
      chain: blockchain,
      signer: identity.signer,
      publish: (encoded) => network.publish('transactions', encoded),
    });
    this.#rounds = new RoundHistory(blockchain);
    this.#api = new ApiServer(options.api, {
      status: () => this.status(),
      account: (account) => {
        const { balance, registrationBond, nextNonce } = blockchain.account(account);
        return { balance, registrationBond, nonce: nextNonce };
      },
      rpc: {
        chain: blockchain,
        publish: (encoded) => {
          network.publish('transactions', encoded).catch((error: unknown) => {
            // Whoever sent it asks what became of it, and sends it again.
            log.child('api').debug({ err: error }, 'a transaction could not be published');
          });
        },
      },
      log: log.child('api'),
    });
  }

  /**
   * Opens and starts everything. Throws the typed errors of its parts: a damaged store, another network's folder, a
   * taken port. What was opened before a failure is closed again.
   */
  static async start(options: NodeOptions): Promise<AliceNode> {
    await signaturesReady();
    const { networkFile, folder, identity, log } = options;
    const { genesis } = networkFile;
    checkGenesisCertificates(genesis);
    await using cleanup = new AsyncDisposableStack();
    const store = Store.open({
      path: folder.join('chain.sqlite'),
      genesisHash: genesisHash(genesis),
      ...(options.chain && { retention: options.chain.retention }),
    });
    cleanup.defer(() => store.close());
    const blobStore = await openBlobStore({ dir: folder.join('blobs'), capacityBytes: options.blobCapacityBytes });
    cleanup.defer(() => blobStore.close());
    const network = await createNetwork({
      networkName: networkName(genesis),
      privateKeySeed: identity.peerSeed(),
      listen: options.listen,
      announce: options.announce,
      bootstrap: networkFile.bootstrap,
      maxPeers: options.maxPeers,
      // Most nodes listen on all interfaces: whether the network is a public one shows in its first addresses.
      privateNetwork: isPrivate([
        ...(options.announce.length > 0 ? options.announce : options.listen),
        ...networkFile.bootstrap,
      ]),
      log: log.child('network'),
    });
    await network.start();
    cleanup.defer(() => network.stop());
    await AliceNode.#syncState(options, store, network);
    const verifier = new ThreadedVerifier(log.child('signatures'));
    cleanup.defer(() => verifier.close());
    const blockchain = new Blockchain({ genesis }, { store, log: log.child('blockchain'), verifier });
    const node = new AliceNode({ options, store, blockchain, network, blobStore, verifier });
    await new StateSyncServer(blockchain).serve(network);
    await node.#introduction.start();
    cleanup.defer(() => node.#introduction.stop());
    node.#unsubscribe.push(blockchain.onBlock(() => node.#introduction.refresh()));
    await node.blobs.start();
    cleanup.defer(() => node.blobs.stop());
    await node.consensus.start();
    cleanup.defer(() => node.consensus.stop());
    node.#unsubscribe.push(relayTransactions(network, blockchain));
    await node.#api.start();
    cleanup.defer(() => node.#api.stop());
    await folder.announce({ pid: process.pid, api: node.#api.url, multiaddrs: network.multiaddrs() });
    cleanup.move();
    log.info(
      {
        role: options.role,
        address: identity.address,
        multiaddrs: network.multiaddrs(),
        api: node.#api.url,
      },
      'node started',
    );
    return node;
  }

  /** Fetches a recent state before the chain is loaded, where the operator trusts a block and the node is far behind. */
  static async #syncState({ chain, log }: NodeOptions, store: Store, network: Network): Promise<void> {
    if (chain?.trust === undefined) return;
    const { trust, trustingPeriodMs } = chain;
    const sync = new StateSync(
      { trust, trustingPeriodMs },
      { store, requests: network, discovery: network, log: log.child('state-sync') },
    );
    // Bounded by its own patience; a second interrupt ends the process as it does everywhere.
    await sync.run({ signal: new AbortController().signal });
  }

  /** Lets a role add to the status. */
  describeRole(status: () => RoleStatus): void {
    this.#roleStatus = status;
  }

  /** Sends a call as a transaction of this node; resolves once a block holds it. Throws {@link CallFailedError}. */
  async send(call: Call, options: SendOptions): Promise<void> {
    const receipt = await this.sender.send(call, options);
    if (receipt.error !== undefined) throw new CallFailedError(`the ledger refused ${call.tag}: ${receipt.error}`);
  }

  /** What the node tells about itself. Cheap: called twice a second. */
  status(): NodeStatus {
    const { options, blockchain, network } = this;
    const { identity, networkFile } = options;
    const { state } = blockchain;
    const { account } = identity;
    const traffic = network.status();
    const round = state.round;
    const epoch = state.epoch;
    const reward = state.lastReward(account);
    const { work, weightsRound, weightsRoot } = this.#roleStatus();
    return {
      role: options.role,
      name: options.name,
      version,
      pid: process.pid,
      network: networkName(networkFile.genesis),
      address: identity.address,
      peerId: network.peerId,
      multiaddrs: network.multiaddrs(),
      peers: traffic.peers,
      bytesSent: traffic.bytesSent,
      bytesReceived: traffic.bytesReceived,
      residentBytes: process.memoryUsage.rss(),
      chain: {
        height: blockchain.height,
        timeMs: Number(blockchain.lastTimeMs),
        stateRoot: state.root,
        modelRoot: state.modelRoot,
        waitingTransactions: blockchain.waiting.transactions,
        totalIssuance: state.supply.totalIssuance.toString(),
        epochs: epoch.epoch - 1,
        lastEpochTimeMs: Number(epoch.startTimeMs),
        genesisTimeMs: networkFile.genesis.timeMs,
      },
      training: {
        round: round.round,
        phase: round.phase,
        seats: round.seats.length,
        provenSeats: round.seats.filter(({ proven }) => proven).length,
        waitingForSeats: state.waitingForSeats,
        weightsRound,
        weightsRoot,
        rounds: this.#rounds.list(),
      },
      account: {
        balance: state.holdings(account).balance.toString(),
        lastReward:
          reward === undefined
            ? null
            : {
                epoch: reward.epoch,
                units: reward.amount.toString(),
                reason: `${((Number(reward.credit) / Number(reward.totalCredit)) * 100).toFixed(1)} % of the ${reward.role}s' credit in rounds ${reward.firstRound} to ${reward.lastRound}`,
              },
      },
      work,
    };
  }

  /** Stops everything, in the reverse order of the start. The folder is not released. */
  async stop(): Promise<void> {
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    await this.#api.stop();
    this.#introduction.stop();
    await this.announcer.stop();
    await this.consensus.stop();
    await this.blobs.stop();
    await this.network.stop();
    await this.#verifier.close();
    await this.blobStore.close();
    this.store.close();
  }
}
