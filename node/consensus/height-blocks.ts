/**
 * Blocks and proposals of the height that is being decided. Blocks are large and shared by proposals of several rounds,
 * so the two are kept apart. Bounded by what the core keeps: call {@link HeightBlocks.forgetOld} when a round starts.
 */
import { type Block, encodeProposal, type Proposal } from '../chain/block.ts';
import type { Hash } from '../chain/hash.ts';
import type { DriverState } from './core/driver.ts';

/** A decoded block with its encoding. */
export interface EncodedBlock {
  readonly block: Block;
  readonly encoded: Uint8Array;
}

/** See the head of this file. */
export class HeightBlocks {
  /** By block id. */
  readonly #blocks = new Map<Hash, EncodedBlock>();
  /** By round and block id, without their blocks. */
  readonly #proposals = new Map<string, Omit<Proposal, 'block'>>();

  /** A valid block of this height. */
  block(id: Hash): EncodedBlock | undefined {
    return this.#blocks.get(id);
  }

  /** Keeps a block that this node built. */
  keepBlock(id: Hash, block: EncodedBlock): void {
    this.#blocks.set(id, block);
  }

  /** Keeps a valid proposal. `block` is its decoded block. */
  keepProposal(proposal: Proposal, block: Block): void {
    const { block: encoded, ...rest } = proposal;
    this.#proposals.set(`${rest.body.round}/${rest.body.blockId}`, rest);
    this.#blocks.set(rest.body.blockId, { block, encoded });
  }

  /** A valid proposal as it goes over the wire. */
  encodedProposal(round: number, id: Hash): Uint8Array | undefined {
    const proposal = this.#proposals.get(`${round}/${id}`);
    const block = this.#blocks.get(id);
    return proposal && block && encodeProposal({ ...proposal, block: block.encoded });
  }

  /** Keeps what the core keeps, and what is on its way to the core for this round and later ones. */
  forgetOld(core: DriverState): void {
    const needed = new Set<string>();
    const values = new Set<Hash>();
    for (const proposals of core.proposals.values()) {
      for (const { round, value } of proposals) {
        needed.add(`${round}/${value}`);
        values.add(value);
      }
    }
    for (const [key, proposal] of this.#proposals)
      if (!needed.has(key) && proposal.body.round < core.machine.round) this.#proposals.delete(key);
    for (const proposal of this.#proposals.values()) values.add(proposal.body.blockId);
    for (const id of this.#blocks.keys()) if (!values.has(id)) this.#blocks.delete(id);
  }

  clear(): void {
    this.#blocks.clear();
    this.#proposals.clear();
  }
}
