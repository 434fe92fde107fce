/**
 * Peers without keys that are asked for what a node lacks, and do not help: they say that they are far ahead, so that they
 * are asked, and then are silent, slow, or lie.
 */
import { Bytes, Struct, u32, Vector } from 'scale-ts';
import {
  type Block,
  decodeBlock,
  decodeProposal,
  encodeBlock,
  encodeCommit,
  encodeProposal,
  encodeVote,
} from '../../node/chain/block.ts';
import { BLOCK_SYNC_LIMITS, BLOCK_SYNC_PROTOCOL } from '../../node/consensus/block-sync.ts';
import { CATCH_UP_LIMITS, CATCH_UP_PROTOCOL } from '../../node/consensus/catch-up.ts';
import type { PeerIdText, RequestHandler } from '../../node/network/interface.ts';
import type { Chain } from './application.ts';
import { FORGERIES } from './forger.ts';
import type { Endpoint, SimulatedNetwork } from './network.ts';
import { simulatedSigner } from './node.ts';
import type { Random } from './random.ts';
import type { World } from './world.ts';

export const blocksRequestCodec = Struct({ fromHeight: u32 });
export const blocksAnswerCodec = Vector(Struct({ block: Bytes(), commit: Bytes() }));
export const statusAnswerCodec = Struct({ finalizedHeight: u32, proposals: Vector(Bytes()), votes: Vector(Bytes()) });

/** An encoded block with its commit. */
export interface Entry {
  readonly block: Uint8Array;
  readonly commit: Uint8Array;
}

/** A block of a chain as an answer has it. */
export function entry({ blocks }: Chain, height: number): Entry {
  const { block, commit } = blocks[height - 1];
  return { block: encodeBlock(block), commit: encodeCommit(commit) };
}

/** Ways to lie about the blocks from a height on; the chain has that height and the one after it. */
export const BLOCK_LIES: Record<string, (chain: Chain, fromHeight: number) => Entry[] | Uint8Array> = {
  'no blocks': () => [],
  garbage: () => new Uint8Array([255, 1, 2, 3, 4]),
  'a commit of another height': (chain, at) => [{ ...entry(chain, at), commit: entry(chain, at + 1).commit }],
  'a commit without a quorum': (chain, at) => {
    const { block, commit } = chain.blocks[at - 1];
    return [
      { block: encodeBlock(block), commit: encodeCommit({ ...commit, signatures: commit.signatures.slice(0, 2) }) },
    ];
  },
  'a forged signature': (chain, at) => {
    const { block, commit } = chain.blocks[at - 1];
    const [first, ...rest] = commit.signatures;
    const forged = { ...first, signature: new Uint8Array(64) };
    return [{ block: encodeBlock(block), commit: encodeCommit({ ...commit, signatures: [forged, ...rest] }) }];
  },
  'another block under a good commit': (chain, at) => {
    const { block, commit } = chain.blocks[at - 1];
    const altered: Block = { ...block, header: { ...block.header, timeMs: block.header.timeMs + 1n } };
    return [{ block: encodeBlock(altered), commit: encodeCommit(commit) }];
  },
  'another body under a good commit': (chain, at) => {
    const { block, commit } = chain.blocks[at - 1];
    const forge = Object.values(FORGERIES)[at % Object.keys(FORGERIES).length];
    return [{ block: encodeBlock(forge(block)), commit: encodeCommit(commit) }];
  },
  'blocks out of order': (chain, at) => [entry(chain, at + 1), entry(chain, at)],
  'blocks of other heights': (chain, at) => [entry(chain, at + 1)],
  'an answer over every limit': () => new Uint8Array(BLOCK_SYNC_LIMITS.maxResponseBytes + 1),
};

/** What such a peer does with a question. */
export const SYNC_PEER_KINDS = ['silent', 'slow', 'lying'] as const;
export type SyncPeerKind = (typeof SYNC_PEER_KINDS)[number];

/** Slow answers take up to this long: some come after the asking node's patience. */
const SLOWEST_MS = 12_000;
/** Between two words about a height far ahead, which make nodes ask this peer. */
const BOAST_MS = 400;
const FAR_HEIGHT = 1_000_000;
/** An answer of nothing but the truth, so that a liar is believed again. */
const TRUTH = 0.2;

/** See the head of this file. */
export class SyncPeer {
  /** Questions that came. */
  asked = 0;
  readonly #world: World;
  readonly #network: SimulatedNetwork;
  readonly #random: Random;
  readonly #peer: PeerIdText;
  readonly #kind: SyncPeerKind;
  readonly #chain: () => Chain;
  #heard: Uint8Array | undefined;

  /** `chain`: that of an honest node, as far as it is. */
  constructor(init: {
    readonly world: World;
    readonly network: SimulatedNetwork;
    readonly random: Random;
    readonly peer: PeerIdText;
    readonly kind: SyncPeerKind;
    chain(): Chain;
  }) {
    this.#world = init.world;
    this.#network = init.network;
    this.#random = init.random;
    this.#peer = init.peer;
    this.#kind = init.kind;
    this.#chain = () => init.chain();
  }

  start(): void {
    const endpoint = this.#network.join(this.#peer, { near: true });
    const serve = (name: string, limits: typeof CATCH_UP_LIMITS, answer: (request: Uint8Array) => Uint8Array) => {
      const handler: RequestHandler = async (request) => {
        this.asked += 1;
        if (this.#kind === 'silent') return new Promise<never>(() => {});
        if (this.#kind === 'slow') await this.#world.sleep(this.#random.next() * SLOWEST_MS);
        return answer(request);
      };
      void endpoint.requests.handle(name, limits, handler);
    };
    serve(CATCH_UP_PROTOCOL, CATCH_UP_LIMITS, () => this.#status());
    serve(BLOCK_SYNC_PROTOCOL, BLOCK_SYNC_LIMITS, (request) =>
      this.#blocks(blocksRequestCodec.dec(request).fromHeight),
    );
    // What a liar hears it sends back, with other bodies.
    endpoint.gossip.subscribe('proposals', (data) => {
      this.#heard = data;
    });
    this.#boast(endpoint.discovery);
  }

  #isLying(): boolean {
    return this.#kind === 'lying' && !this.#random.chance(TRUTH);
  }

  #status(): Uint8Array {
    const { length } = this.#chain().blocks;
    if (!this.#isLying()) return statusAnswerCodec.enc({ finalizedHeight: length, proposals: [], votes: [] });
    const proposals: Uint8Array[] = [];
    if (this.#heard !== undefined && this.#random.chance(0.5)) {
      const proposal = decodeProposal(this.#heard);
      const forge = this.#random.pick(Object.values(FORGERIES));
      proposals.push(encodeProposal({ ...proposal, block: encodeBlock(forge(decodeBlock(proposal.block))) }));
    }
    const finalizedHeight = this.#random.pick([0, length + 1, FAR_HEIGHT]);
    return statusAnswerCodec.enc({ finalizedHeight, proposals, votes: [] });
  }

  #blocks(fromHeight: number): Uint8Array {
    const chain = this.#chain();
    const last = chain.blocks.length;
    if (!this.#isLying()) {
      const heights = Array.from({ length: Math.max(0, last + 1 - fromHeight) }, (_, index) => fromHeight + index);
      return blocksAnswerCodec.enc(heights.slice(0, 8).map((height) => entry(chain, height)));
    }
    if (last < 2) return blocksAnswerCodec.enc([]);
    const lie = this.#random.pick(Object.values(BLOCK_LIES))(chain, Math.min(fromHeight, last - 1));
    return lie instanceof Uint8Array ? lie : blocksAnswerCodec.enc([...lie]);
  }

  /** Votes of a height that nobody is at, with no signature: who hears them wonders whether it is behind. */
  #boast(discovery: Endpoint['discovery']): void {
    const body = { type: 0, height: FAR_HEIGHT, round: 0, blockId: undefined };
    const vote = { body, validator: simulatedSigner(1).account.account, signature: new Uint8Array(64) };
    for (const peer of discovery.peers()) this.#network.sendTo(this.#peer, peer, 'votes', encodeVote(vote));
    this.#world.after(BOAST_MS, () => this.#boast(discovery));
  }
}
