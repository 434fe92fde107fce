/** Byzantine actors of the simulation: hold a validator's key and follow no rules. */
import {
  type Block,
  blockId,
  decodeBlock,
  decodeProposal,
  decodeVote,
  encodeBlock,
  encodeProposal,
  encodeVote,
  proposalSignBytes,
  VOTE_TYPES,
  voteSignBytes,
} from '../../node/chain/block.ts';
import type { Hash } from '../../node/chain/hash.ts';
import type { ConsensusSigner } from '../../node/consensus/engine-parts.ts';
import type { PeerIdText } from '../../node/network/interface.ts';
import type { SimulatedNetwork } from './network.ts';
import { SIMULATED_NETWORK_ID } from './node.ts';
import type { Random } from './random.ts';

/** Counts of what the actor did. */
export interface ByzantineCounts {
  votes: number;
  proposals: number;
}

/**
 * Answers what it hears with random votes, different ones for different peers: for values that it knows, for nil, in the
 * round it heard of and those around it. Proposes variants of blocks in rounds that may or may not be its own.
 */
export class Equivocator {
  readonly counts: ByzantineCounts = { votes: 0, proposals: 0 };
  readonly #network: SimulatedNetwork;
  readonly #random: Random;
  readonly #signer: ConsensusSigner;
  readonly #peer: PeerIdText;
  #height = 0;
  #blocks = new Map<Hash, Uint8Array>();

  constructor(network: SimulatedNetwork, random: Random, signer: ConsensusSigner, peer: PeerIdText) {
    this.#network = network;
    this.#random = random;
    this.#signer = signer;
    this.#peer = peer;
  }

  start(): void {
    const { gossip, discovery } = this.#network.join(this.#peer);
    gossip.subscribe('votes', (data) => {
      const { body } = decodeVote(data);
      this.#enter(body.height);
      if (body.height === this.#height && this.#random.chance(0.3)) this.#vote(discovery.peers(), body.round);
    });
    gossip.subscribe('proposals', (data) => {
      const proposal = decodeProposal(data);
      this.#enter(proposal.body.height);
      if (proposal.body.height !== this.#height) return;
      if (this.#blocks.size < 8) this.#blocks.set(proposal.body.blockId, proposal.block);
      this.#vote(discovery.peers(), proposal.body.round);
      if (this.#random.chance(0.5)) this.#propose(discovery.peers(), decodeBlock(proposal.block), proposal.body.round);
    });
  }

  #enter(height: number): void {
    if (height <= this.#height) return;
    this.#height = height;
    this.#blocks.clear();
  }

  #vote(peers: readonly PeerIdText[], round: number): void {
    const values: (Hash | undefined)[] = [...this.#blocks.keys(), undefined];
    for (const peer of peers) {
      for (const type of VOTE_TYPES.keys()) {
        if (this.#random.chance(0.3)) continue;
        const body = {
          type,
          height: this.#height,
          round: Math.max(0, round + this.#random.pick([-1, 0, 0, 0, 0, 1, 2])),
          blockId: this.#random.pick(values),
        };
        const signature = this.#signer.session.sign(voteSignBytes(SIMULATED_NETWORK_ID, body));
        this.counts.votes += 1;
        this.#network.sendTo(
          this.#peer,
          peer,
          'votes',
          encodeVote({ body, validator: this.#signer.account.account, signature }),
        );
      }
    }
  }

  /** Variants of a block with another time and itself as the proposer: valid for some, if it is its turn. */
  #propose(peers: readonly PeerIdText[], block: Block, heardRound: number): void {
    for (const peer of peers) {
      const round = heardRound + this.#random.below(3);
      const again = this.#random.chance(0.5);
      const header = {
        ...block.header,
        timeMs: block.header.timeMs + BigInt(this.#random.below(3)),
        proposer: this.#signer.account.account,
      };
      const variant = again ? block : { ...block, header };
      const encoded = encodeBlock(variant);
      const body = {
        height: this.#height,
        round,
        validRound: again && round > 0 ? this.#random.below(round) : -1,
        blockId: blockId(variant.header),
      };
      if (this.#blocks.size < 8) this.#blocks.set(body.blockId, encoded);
      const signature = this.#signer.session.sign(proposalSignBytes(SIMULATED_NETWORK_ID, body));
      this.counts.proposals += 1;
      this.#network.sendTo(
        this.#peer,
        peer,
        'proposals',
        encodeProposal({ body, proposer: this.#signer.account.account, signature, block: encoded }),
      );
    }
  }
}
