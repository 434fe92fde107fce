/** A whole consensus node in the simulated world: it can crash at any moment and start again from what its disk kept. */
import { createHash } from 'node:crypto';
import type { AccountId } from '../../node/chain/account.ts';
import { blockId } from '../../node/chain/block.ts';
import type { Hash } from '../../node/chain/hash.ts';
import type { SessionKey, ValidatorSet } from '../../node/chain/validator-set.ts';
import type { FinalizedBlock } from '../../node/consensus/application.ts';
import type { VerifySession } from '../../node/consensus/commit-verifier.ts';
import type { ConsensusSigner } from '../../node/consensus/engine-parts.ts';
import { type Logger, silentLogger } from '../../node/consensus/logger.ts';
import { type ConsensusInit, ConsensusService } from '../../node/consensus/service.ts';
import type { PeerIdText } from '../../node/network/interface.ts';
import { type Chain, SimulatedApplication } from './application.ts';
import { SimulatedDisk } from './disk.ts';
import type { SimulatedNetwork } from './network.ts';
import type { Random } from './random.ts';
import type { World } from './world.ts';

/** Network id of all simulations. */
export const SIMULATED_NETWORK_ID = new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8]);

/** Local timeouts. */
export const SIMULATED_PARAMETERS: ConsensusInit['parameters'] = {
  proposeTimeoutMs: 300,
  proposeTimeoutDeltaMs: 100,
  prevoteTimeoutMs: 200,
  prevoteTimeoutDeltaMs: 100,
  precommitTimeoutMs: 200,
  precommitTimeoutDeltaMs: 100,
  blockIntervalMs: 50,
  emptyBlockIntervalMs: 400,
  clockDriftMs: 200,
  maxTransactionsPerBlock: 100,
};

function digest(...parts: (string | Uint8Array)[]): Buffer {
  const hasher = createHash('sha256');
  for (const part of parts) hasher.update(part);
  return hasher.digest();
}

/** Stands for an ed25519 signature: nobody in the simulation forges, and a hash is thirty times faster. */
function seal(key: string, message: Uint8Array): Uint8Array {
  const half = digest('seal', key, message);
  return new Uint8Array(Buffer.concat([half, half]));
}

export const verifySeal: VerifySession = (key, message, signature) =>
  Buffer.compare(seal(key, message), signature) === 0;

/** Keys of the simulated validator with this number. Accounts ascend with the number. */
export function simulatedSigner(index: number): ConsensusSigner {
  const account = index.toString(16).padStart(2, '0').repeat(32) as AccountId;
  const sessionKey = digest('session', account).toString('hex') as SessionKey;
  return {
    account: {
      account,
      sign: () => new Uint8Array(64),
      prove: (message) => new Uint8Array(Buffer.concat([digest('prove', account, message), Buffer.alloc(64)])),
    },
    session: { sessionKey, sign: (message) => seal(sessionKey, message) },
  };
}

/** A set of simulated validators with these powers. */
export function simulatedValidators(powers: readonly bigint[]): ValidatorSet {
  return powers.map((power, index) => {
    const { account, session } = simulatedSigner(index + 1);
    return { account: account.account, sessionKey: session.sessionKey, power };
  });
}

export interface SimulatedNodeInit {
  readonly name: string;
  readonly world: World;
  readonly network: SimulatedNetwork;
  readonly random: Random;
  readonly signer?: ConsensusSigner | undefined;
  validatorsAt(height: number): ValidatorSet;
  /** See SimulatedApplicationInit. */
  readonly allows?: (set: ValidatorSet) => boolean;
  /** Transactions besides the one that every block has. */
  readonly transactions?: (height: number) => Uint8Array[];
  readonly skewMs?: number;
  readonly diskDelayMs?: number;
  readonly parameters?: ConsensusInit['parameters'];
  readonly logger?: Logger;
  readonly verify?: VerifySession;
  /** True: there is always something to put into a block. */
  readonly busy?: boolean;
  readonly chain?: Chain;
  onFinalized?(node: SimulatedNode, finalized: FinalizedBlock): void;
}

/** See the head of this file. */
export class SimulatedNode {
  readonly init: SimulatedNodeInit;
  readonly peer: PeerIdText;
  readonly disk: SimulatedDisk;
  readonly chain: Chain;
  /** Evidence that this node emitted, over all its lives. */
  readonly evidence: { validator: AccountId; height: number; round: number; type: number }[] = [];
  application: SimulatedApplication | undefined;
  service: ConsensusService | undefined;
  busy: boolean;
  /** Called before each commit to the chain. */
  beforeCommit: ((height: number) => Promise<void>) | undefined;
  #life = 0;
  #transactions = 0;

  constructor(init: SimulatedNodeInit) {
    this.init = init;
    this.peer = init.name as PeerIdText;
    this.disk = new SimulatedDisk(init.world, init.random, init.diskDelayMs ?? 0);
    this.chain = init.chain ?? { blocks: [], states: [] };
    this.busy = init.busy ?? true;
  }

  get running(): boolean {
    return this.service !== undefined;
  }
  get height(): number {
    return this.chain.blocks.length;
  }
  blockIdAt(height: number): Hash | undefined {
    const finalized = this.chain.blocks[height - 1];
    return finalized && blockId(finalized.block.header);
  }

  /** Starts a new life of the process. The promise is of the service's start. */
  start(): Promise<void> {
    const { world, network, random, skewMs = 0, signer, validatorsAt, name } = this.init;
    const life = ++this.#life;
    const alive = () => life === this.#life;
    /** What a dead process waits for never comes. */
    const unlessDead = async () => {
      if (!alive()) await new Promise<never>(() => {});
    };
    const clock = world.clock(skewMs);
    const endpoint = network.join(this.peer);
    const delayMs = this.init.diskDelayMs ?? 0;
    const application = new SimulatedApplication({
      chain: this.chain,
      networkId: SIMULATED_NETWORK_ID,
      genesisTimeMs: 0n,
      validatorsAt,
      verify: this.init.verify ?? verifySeal,
      ...(this.init.allows && { allows: this.init.allows }),
      transactions: (height) => [
        Buffer.from(`${name} ${this.#transactions++}`),
        ...(this.init.transactions?.(height) ?? []),
      ],
      hasWork: () => this.busy,
      beforeCommit: async (height) => {
        await this.beforeCommit?.(height);
        if (delayMs > 0) await world.sleep(random.next() * delayMs);
        await unlessDead();
      },
      work: async () => {
        if (delayMs > 0) await world.sleep(random.next() * delayMs);
        await unlessDead();
      },
    });
    const service = new ConsensusService(
      {
        networkId: SIMULATED_NETWORK_ID,
        parameters: this.init.parameters ?? SIMULATED_PARAMETERS,
        signer,
        directory: this.disk.open(),
        verify: this.init.verify ?? verifySeal,
      },
      {
        application,
        gossip: endpoint.gossip,
        requests: endpoint.requests,
        discovery: endpoint.discovery,
        logger: this.init.logger ?? silentLogger,
        clock: {
          nowMs: clock.nowMs,
          schedule: (ms, callback) => clock.schedule(ms, () => alive() && callback()),
        },
      },
    );
    service.on('finalized', (finalized) => this.init.onFinalized?.(this, finalized));
    service.on('evidence', ({ first }) => {
      const { height, round, type } = first.body;
      this.evidence.push({ validator: first.validator, height, round, type });
    });
    this.application = application;
    this.service = service;
    return service.start();
  }

  /** kill -9 and power failure in one: nothing of this life happens any more. */
  crash(): void {
    this.#life += 1;
    this.init.network.leave(this.peer);
    this.disk.crash();
    this.service = undefined;
    this.application = undefined;
  }

  /** An orderly stop. */
  async stop(): Promise<void> {
    await this.service?.stop();
    this.init.network.leave(this.peer);
    this.service = undefined;
    this.application = undefined;
  }
}
