/**
 * One seeded run of a small network with faults: first a phase in which anything may break, then the network heals and
 * everybody honest comes back. Safety must hold always, progress must return after healing. The same seed gives the same
 * run.
 */
import type { AccountId } from '../../node/chain/account.ts';
import { decodeProposal, decodeVote, type ProposalBody, type VoteBody } from '../../node/chain/block.ts';
import { decodeEvidence, evidenceId } from '../../node/chain/evidence.ts';
import type { Hash } from '../../node/chain/hash.ts';
import { totalPower, type ValidatorSet } from '../../node/chain/validator-set.ts';
import { CATCH_UP_PROTOCOL, decodeCatchUpResponse } from '../../node/consensus/catch-up.ts';
import type { PeerIdText } from '../../node/network/interface.ts';
import { powerChange } from './application.ts';
import { Equivocator } from './byzantine.ts';
import { Forger } from './forger.ts';
import { SimulatedNetwork } from './network.ts';
import { SimulatedNode, simulatedSigner, simulatedValidators } from './node.ts';
import { type Random, seededRandom } from './random.ts';
import { SYNC_PEER_KINDS, SyncPeer, type SyncPeerKind } from './sync-peers.ts';
import { World } from './world.ts';

/** What a byzantine validator does in a run. */
export const BYZANTINE_KINDS = ['none', 'silent', 'twins', 'amnesia', 'equivocator'] as const;
export type ByzantineKind = (typeof BYZANTINE_KINDS)[number];

/** Faults by kind, as counted in a run. */
export type FaultCounts = Record<string, number>;

export interface SimulationResult {
  readonly seed: number;
  readonly validators: number;
  readonly byzantine: readonly ByzantineKind[];
  /** What must never happen, in words. */
  readonly violations: readonly string[];
  /** True when there was no progress in time after the network healed. */
  readonly stalled: boolean;
  readonly height: number;
  /** Highest round of a finalized block. */
  readonly maxRound: number;
  /** Equivocations that honest nodes noticed. */
  readonly evidence: number;
  readonly faults: FaultCounts;
  readonly virtualMs: number;
}

/** Length of the phase with faults, and the longest time that progress may take after it. */
const FAULT_PHASE_MS = 6_000;
const LIVENESS_LIMIT_MS = 120_000;
/** Silent, slow and lying peers of a run. */
const MAX_SYNC_PEERS = 3;
const SYNC_PEER_FAULTS: Record<SyncPeerKind, string> = {
  silent: 'silentSyncPeers',
  slow: 'slowSyncPeers',
  lying: 'lyingSyncPeers',
};
/** Heights that every honest node must finalize after healing. */
const HEIGHTS_AFTER_HEALING = 2;

/** How the run differs from what the seed alone would choose. */
export interface SimulationOptions {
  readonly onLog?: (node: string, fields: object, message: string) => void;
  /** Called with all nodes at the end, before they go. */
  readonly onEnd?: (nodes: readonly SimulatedNode[]) => void;
}

/** Runs one seed. */
export async function simulate(seed: number, options: SimulationOptions = {}): Promise<SimulationResult> {
  const random = seededRandom(seed);
  const world = new World(1_700_000_000_000);
  const count = random.chance(0.6) ? 4 : 7;
  const maxFaulty = count === 4 ? 1 : 2;
  const equal = random.chance(0.7);
  const powers = Array.from({ length: count }, () => (equal ? 10n : BigInt(8 + random.below(5))));
  // Some honest ones wait outside: they follow, and vote once a block gives them power.
  const reserves = random.below(3);
  let everyone = simulatedValidators([...powers, ...Array.from({ length: reserves }, () => 0n)]);
  const network = new SimulatedNetwork(world, random.fork(), stormy(random));
  const faults: FaultCounts = {
    partitions: 0,
    joins: 0,
    leaves: 0,
    powerChanges: 0,
    crashes: 0,
    tornTails: 0,
    twins: 0,
    silent: 0,
    amnesia: 0,
    equivocations: 0,
    skewedClocks: 0,
    forgers: 0,
    forgedBodies: 0,
    silentSyncPeers: 0,
    slowSyncPeers: 0,
    lyingSyncPeers: 0,
    vainQuestions: 0,
  };
  const violations: string[] = [];
  const decided = new Map<number, Hash>();
  let maxRound = 0;

  const byzantine: ByzantineKind[] = everyone.map(() => 'none');
  const faulty = random.below(maxFaulty + 1) || (random.chance(0.5) ? maxFaulty : 0);
  for (let index = 0; index < faulty; index++) byzantine[random.below(count)] = random.pick(BYZANTINE_KINDS.slice(1));

  const validatorsAt = () => everyone;
  const isFaulty = new Set(everyone.filter((_, index) => byzantine[index] !== 'none').map(({ account }) => account));
  /** Who is faulty stays below a third in every set. */
  const allows = (set: ValidatorSet) =>
    totalPower(set.filter(({ account }) => isFaulty.has(account))) * 3n < totalPower(set);
  if (!allows(everyone)) everyone = simulatedValidators(everyone.map(({ power }) => (power > 0n ? 10n : 0n)));
  const changes = random.pick([0, 0.3, 0.7]);
  const changePowers = (stream: Random) => () => {
    if (!stream.chance(changes)) return [];
    return [powerChange(stream.pick(everyone).account, stream.chance(0.3) ? 0n : BigInt(6 + stream.below(10)))];
  };
  const node = (index: number, name: string, honest: boolean) => {
    const skewMs = random.chance(0.3) ? random.below(80) - 40 : 0;
    if (skewMs !== 0) faults.skewedClocks += 1;
    return new SimulatedNode({
      name,
      world,
      network,
      random: random.fork(),
      signer: simulatedSigner(index + 1),
      validatorsAt,
      allows,
      transactions: changePowers(random.fork()),
      skewMs,
      diskDelayMs: random.pick([0, 2, 10]),
      busy: random.chance(0.7),
      ...(options.onLog && {
        logger: {
          debug() {},
          info: (fields, message) => options.onLog?.(name, fields, message),
          warn: (fields, message) => options.onLog?.(name, fields, message),
          error: (fields, message) => options.onLog?.(name, fields, message),
        },
      }),
      onFinalized: (_, { block, commit }) => {
        if (!honest) return;
        maxRound = Math.max(maxRound, commit.round);
        const { height } = block.header;
        const known = decided.get(height);
        if (known !== undefined && known !== commit.blockId)
          violations.push(`two blocks are final at height ${height}`);
        decided.set(height, commit.blockId);
      },
    });
  };

  const honest: SimulatedNode[] = [];
  const others: SimulatedNode[] = [];
  const equivocators: Equivocator[] = [];
  for (const [index, kind] of byzantine.entries()) {
    const name = `v${index + 1}`;
    if (kind === 'none') honest.push(node(index, name, true));
    if (kind === 'amnesia') others.push(node(index, name, false));
    if (kind === 'twins') others.push(node(index, name, false), node(index, `${name}'`, false));
    if (kind === 'equivocator')
      equivocators.push(new Equivocator(network, random.fork(), simulatedSigner(index + 1), name as PeerIdText));
    if (kind === 'silent') faults.silent += 1;
    if (kind === 'twins') faults.twins += 1;
  }
  // Peers without keys: they cost nothing, and stay to the end.
  const forgers: Forger[] = [];
  if (random.chance(0.5)) {
    forgers.push(new Forger(network, random.fork(), 'forger' as PeerIdText));
    faults.forgers += 1;
  }
  const syncPeers = Array.from({ length: random.below(MAX_SYNC_PEERS + 1) }, (_, index) => {
    const kind = random.pick(SYNC_PEER_KINDS);
    faults[SYNC_PEER_FAULTS[kind]] += 1;
    const source = random.pick(honest);
    const peer = `${kind}${index}` as PeerIdText;
    return new SyncPeer({ world, network, random: random.fork(), peer, kind, chain: () => source.chain });
  });
  watchForDoubleSigning(network, honest, violations);

  const all = [...honest, ...others];
  for (const one of all) void one.start();
  for (const one of [...equivocators, ...forgers, ...syncPeers]) one.start();

  // --- anything may break -----------------------------------------------------------------------------------------
  const endMs = world.nowMs + FAULT_PHASE_MS;
  while (world.nowMs < endMs) {
    await world.run(20 + random.below(400));
    if (random.chance(0.3)) breakNetwork(network, random, all, equivocators.length > 0, byzantine, faults);
    if (random.chance(0.3)) network.weather = stormy(random);
    if (random.chance(0.35)) {
      const victim = random.pick(all);
      const amnesia = !honest.includes(victim) && !byzantine.includes('twins');
      if (victim.running) {
        victim.crash();
        faults.crashes += 1;
        if (amnesia) {
          victim.disk.wipe();
          faults.amnesia += 1;
        }
      } else void victim.start();
    }
    if (random.chance(0.05)) {
      // The whole network loses power at once.
      for (const one of all) if (one.running) one.crash();
      faults.crashes += all.length;
    }
    for (const one of all) if (!one.running && random.chance(0.4)) void one.start();
  }

  // --- healing ----------------------------------------------------------------------------------------------------
  network.partition(new Map());
  network.weather = { minDelayMs: 1, maxDelayMs: 20, loss: 0, duplication: 0 };
  for (const one of all) {
    if (!one.running) void one.start();
    one.busy = true;
  }
  const target = Math.max(...honest.map(({ height }) => height)) + HEIGHTS_AFTER_HEALING;
  const live = await world.runUntil(() => honest.every(({ height }) => height >= target), LIVENESS_LIMIT_MS);
  checkChains(honest, violations);
  faults.evidenceCommitted = checkEvidence(honest[0], isFaulty, violations);

  for (const [kind, number] of Object.entries(network.counts)) faults[kind] = number;
  countSetChanges(honest[0], faults);
  for (const one of all) faults.tornTails += one.disk.tornTails;
  for (const { sent } of forgers) faults.forgedBodies += sent;
  for (const { asked } of syncPeers) faults.vainQuestions += asked;
  for (const { counts } of equivocators) faults.equivocations += counts.votes + counts.proposals;
  const result: SimulationResult = {
    seed,
    validators: count,
    byzantine,
    violations,
    stalled: !live,
    height: Math.max(...honest.map(({ height }) => height)),
    maxRound,
    evidence: honest.reduce((sum, { evidence }) => sum + evidence.length, 0),
    faults,
    virtualMs: world.nowMs - 1_700_000_000_000,
  };
  options.onEnd?.(all);
  for (const one of all) if (one.running) one.crash();
  return result;
}

/** Evidence in the chain blames nobody honest, and each offence once. Returns how much there is. */
function checkEvidence({ chain }: SimulatedNode, isFaulty: ReadonlySet<AccountId>, violations: string[]): number {
  const seen = new Set<Hash>();
  for (const evidence of chain.blocks.flatMap(({ block }) => block.evidence.map(decodeEvidence))) {
    const id = evidenceId(evidence);
    if (seen.has(id)) violations.push(`evidence ${id} is in the chain twice`);
    if (!isFaulty.has(evidence.first.validator))
      violations.push(`${evidence.first.validator} is honest and was blamed`);
    seen.add(id);
  }
  return seen.size;
}

/** Counts who joined, left, or got other power, in the blocks of a node. */
function countSetChanges({ application, height }: SimulatedNode, faults: FaultCounts): void {
  const powersAt = (at: number) =>
    new Map((application?.validators(at) ?? []).map(({ account, power }) => [account, power]));
  let before = powersAt(1);
  for (let at = 2; at <= height; at++) {
    const powers = powersAt(at);
    for (const [account, power] of powers) {
      if (!before.has(account)) faults.joins += 1;
      else if (before.get(account) !== power) faults.powerChanges += 1;
    }
    for (const account of before.keys()) if (!powers.has(account)) faults.leaves += 1;
    before = powers;
  }
}

function stormy(random: Random) {
  return {
    minDelayMs: 1,
    maxDelayMs: random.pick([5, 20, 100, 400]),
    loss: random.pick([0, 0.02, 0.1, 0.3]),
    duplication: random.pick([0, 0.05, 0.2]),
  };
}

function breakNetwork(
  network: SimulatedNetwork,
  random: Random,
  nodes: readonly SimulatedNode[],
  withEquivocators: boolean,
  byzantine: readonly ByzantineKind[],
  faults: FaultCounts,
): void {
  if (random.chance(0.4)) {
    network.partition(new Map());
    return;
  }
  const groups = new Map<PeerIdText, number>(nodes.map(({ peer }) => [peer, random.below(2)]));
  if (withEquivocators)
    for (const [index, kind] of byzantine.entries())
      if (kind === 'equivocator') groups.set(`v${index + 1}` as PeerIdText, random.below(2));
  network.partition(groups);
  faults.partitions += 1;
}

/**
 * Honest validators never let two different messages of their own for one height, round and step be seen, over all their
 * lives: neither by gossip nor in answers to peers that ask.
 */
function watchForDoubleSigning(
  network: SimulatedNetwork,
  honest: readonly SimulatedNode[],
  violations: string[],
): void {
  const accounts = new Map(honest.map(({ peer, init }) => [peer, init.signer?.account.account]));
  const seen = new Map<string, Hash | undefined>();
  const check = (from: PeerIdText, body: VoteBody | ProposalBody) => {
    const key = `${from} ${body.height}/${body.round}/${'type' in body ? body.type : 'proposal'}`;
    if (seen.has(key) && seen.get(key) !== body.blockId) violations.push(`${key}: signed twice`);
    seen.set(key, body.blockId);
  };
  network.onSend = (topic, data, from) => {
    if (!accounts.has(from)) return;
    if (topic === 'votes') check(from, decodeVote(data).body);
    if (topic === 'proposals') check(from, decodeProposal(data).body);
  };
  network.onAnswer = (protocol, data, from) => {
    const account = accounts.get(from);
    if (protocol !== CATCH_UP_PROTOCOL || account === undefined) return;
    const { votes, proposals } = decodeCatchUpResponse(data);
    for (const { validator, body } of votes.map(decodeVote)) if (validator === account) check(from, body);
    for (const { proposer, body } of proposals.map(decodeProposal)) if (proposer === account) check(from, body);
  };
}

/** Every honest chain is a prefix of the longest, without gaps. */
function checkChains(nodes: readonly SimulatedNode[], violations: string[]): void {
  const longest = nodes.reduce((a, b) => (a.height >= b.height ? a : b));
  for (const node of nodes) {
    for (let height = 1; height <= node.height; height++) {
      if (node.blockIdAt(height) !== longest.blockIdAt(height))
        violations.push(`${node.peer} and ${longest.peer} differ at height ${height}`);
      if (node.chain.blocks[height - 1].block.header.height !== height)
        violations.push(`${node.peer} has a gap at height ${height}`);
    }
  }
}
