/** A simulated network of whole nodes for the tests of the host. */
import { blockId, decodeProposal, decodeVote } from '../../node/chain/block.ts';
import type { ValidatorSet } from '../../node/chain/validator-set.ts';
import { verifyCommit } from '../../node/consensus/commit-verifier.ts';
import type { Logger } from '../../node/consensus/logger.ts';
import { SimulatedNetwork } from '../simulation/network.ts';
import {
  SIMULATED_NETWORK_ID,
  SimulatedNode,
  type SimulatedNodeInit,
  simulatedSigner,
  simulatedValidators,
  verifySeal,
} from '../simulation/node.ts';
import { seededRandom } from '../simulation/random.ts';
import { World } from '../simulation/world.ts';

export interface TestNetwork {
  readonly world: World;
  readonly network: SimulatedNetwork;
  /** Validators, in the order of the set, then observers. */
  readonly nodes: SimulatedNode[];
  /** What each peer published: `peer height/round/step` -> values in the order of publishing, repetitions left out. */
  readonly published: Map<string, string[]>;
  /** Steps for which a peer published two different things. */
  doubleSigned(): string[];
  /** Runs until these nodes have reached the height. */
  reach(height: number, limitMs: number, nodes?: readonly SimulatedNode[]): Promise<boolean>;
}

export interface TestNetworkInit {
  readonly powers?: readonly bigint[];
  readonly observers?: number;
  readonly seed?: number;
  readonly validatorsAt?: (height: number) => ValidatorSet;
  readonly node?: (index: number) => Partial<SimulatedNodeInit>;
  readonly logger?: Logger;
}

/** Makes a network; nothing runs yet. */
export function testNetwork(init: TestNetworkInit = {}): TestNetwork {
  const { powers = [10n, 10n, 10n, 10n], observers = 0, seed = 1 } = init;
  const world = new World(1_700_000_000_000);
  const random = seededRandom(seed);
  const network = new SimulatedNetwork(world, random.fork(), {
    minDelayMs: 1,
    maxDelayMs: 5,
    loss: 0,
    duplication: 0,
  });
  const set = simulatedValidators(powers);
  const nodes = Array.from(
    { length: powers.length + observers },
    (_, index) =>
      new SimulatedNode({
        name: index < powers.length ? `v${index + 1}` : `o${index + 1 - powers.length}`,
        world,
        network,
        random: random.fork(),
        signer: index < powers.length ? simulatedSigner(index + 1) : undefined,
        validatorsAt: init.validatorsAt ?? (() => set),
        ...(init.logger && { logger: init.logger }),
        ...init.node?.(index),
      }),
  );
  const published = new Map<string, string[]>();
  network.onSend = (topic, data, from) => {
    let body: ReturnType<typeof decodeVote>['body'] | ReturnType<typeof decodeProposal>['body'];
    try {
      body = topic === 'votes' ? decodeVote(data).body : decodeProposal(data).body;
    } catch {
      return; // sent by a test that sends rubbish
    }
    const key = `${from} ${body.height}/${body.round}/${'type' in body ? body.type : 'proposal'}`;
    const known = published.get(key) ?? [];
    const text = body.blockId ?? 'nil';
    if (!known.includes(text)) published.set(key, [...known, text]);
  };
  return {
    world,
    network,
    nodes,
    published,
    doubleSigned: () => [...published].filter(([, values]) => values.length > 1).map(([key]) => key),
    reach: (height, limitMs, some = nodes) =>
      world.runUntil(() => some.every((node) => node.height >= height), limitMs),
  };
}

/** Starts nodes; their start resolves in virtual time. */
export function startAll(nodes: readonly SimulatedNode[]): void {
  for (const node of nodes) void node.start();
}

/** Every block of a chain has a commit that proves it to the four validators with equal power. */
export function commitsVerify(node: SimulatedNode): boolean {
  const validators = simulatedValidators([10n, 10n, 10n, 10n]);
  for (const { block, commit } of node.chain.blocks) {
    verifyCommit({
      networkId: SIMULATED_NETWORK_ID,
      height: block.header.height,
      blockId: blockId(block.header),
      commit,
      validators,
      verify: verifySeal,
    });
  }
  return true;
}

/** All chains agree as far as both go. */
export function chainsAgree(nodes: readonly SimulatedNode[]): boolean {
  const longest = nodes.reduce((a, b) => (a.height >= b.height ? a : b));
  return nodes.every((node) =>
    node.chain.blocks.every((_, index) => node.blockIdAt(index + 1) === longest.blockIdAt(index + 1)),
  );
}
