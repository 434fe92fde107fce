/**
 * A peer without any key that is nearer to everybody than everybody else: it hears each proposal first and sends it on
 * with another body under the same signed header, so that the forged one arrives before the true one.
 */
import { type Block, decodeBlock, decodeProposal, encodeBlock, encodeProposal } from '../../node/chain/block.ts';
import { encodeEvidence, equivocationEvidence } from '../../node/chain/evidence.ts';
import { domainHash } from '../../node/chain/hash.ts';
import type { PeerIdText } from '../../node/network/interface.ts';
import type { SimulatedNetwork } from './network.ts';
import { simulatedSigner, simulatedValidators } from './node.ts';
import type { Random } from './random.ts';

/** Ways to make another body for a header. */
export const FORGERIES: Record<string, (block: Block) => Block> = {
  'no transactions': (block) => ({ ...block, transactions: [] }),
  'one transaction more': (block) => ({ ...block, transactions: [...block.transactions, new Uint8Array([7])] }),
  'another transaction': (block) => ({ ...block, transactions: block.transactions.map(() => Buffer.from('forged')) }),
  'evidence that was not there': (block) => ({ ...block, evidence: [...block.evidence, madeUpEvidence()] }),
  'another beacon output': ({ beaconProof, ...block }) => ({ ...block, beaconProof: flipped(beaconProof, 3) }),
  'another beacon proof': ({ beaconProof, ...block }) => ({ ...block, beaconProof: flipped(beaconProof, 80) }),
};

function flipped(bytes: Uint8Array, at: number): Uint8Array {
  const copy = new Uint8Array(bytes);
  copy[at] ^= 1;
  return copy;
}

/** Of the right form, and signed by nobody. */
function madeUpEvidence(): Uint8Array {
  const { account } = simulatedSigner(1);
  const vote = (blockId: ReturnType<typeof domainHash>) => ({
    body: { type: 0, height: 1, round: 0, blockId },
    validator: account.account,
    signature: new Uint8Array(64),
  });
  return encodeEvidence(
    equivocationEvidence(vote(domainHash('x')), vote(domainHash('y')), simulatedValidators([1n, 1n, 1n, 1n])),
  );
}

/**
 * Proposals of one height that it forges: every one that honest validators make. An equivocator answers proposals with
 * proposals, and two of them with a forger between would never end.
 */
const MAX_FORGED_PER_HEIGHT = 24;

/** See the head of this file. */
export class Forger {
  /** Forged bodies that were sent. */
  sent = 0;
  readonly #network: SimulatedNetwork;
  readonly #peer: PeerIdText;
  readonly #forge: (block: Block) => readonly Block[];

  /** `forge`: the bodies that are sent for a block. Default: one of {@link FORGERIES}, by chance. */
  constructor(
    network: SimulatedNetwork,
    random: Random,
    peer: PeerIdText,
    forge: (block: Block) => readonly Block[] = (block) => [random.pick(Object.values(FORGERIES))(block)],
  ) {
    this.#network = network;
    this.#peer = peer;
    this.#forge = forge;
  }

  start(): void {
    const { gossip, discovery } = this.#network.join(this.#peer, { near: true });
    let last = { height: 0, forged: 0 };
    gossip.subscribe('proposals', (data, from) => {
      const proposal = decodeProposal(data);
      const { height } = proposal.body;
      const forged = height === last.height ? last.forged : 0;
      if (height < last.height || forged >= MAX_FORGED_PER_HEIGHT) return;
      last = { height, forged: forged + 1 };
      for (const block of this.#forge(decodeBlock(proposal.block))) {
        const message = encodeProposal({ ...proposal, block: encodeBlock(block) });
        for (const peer of discovery.peers()) {
          if (peer === from) continue;
          this.sent += 1;
          this.#network.sendTo(this.#peer, peer, 'proposals', message);
        }
      }
    });
  }
}
