/**
 * A validator that signs everything twice, for tests of what honest ones do about it. Nothing but a test asks for it
 * (`ALICE_TEST_ADVERSARY=equivocate`): who does this loses stake and key.
 */
import { decodeVote, encodeVote, type Vote, voteSignBytes } from '../chain/block.ts';
import { domainHash } from '../chain/hash.ts';
import type { Gossip } from '../network/interface.ts';
import type { ConsensusSigner } from './engine-parts.ts';

/** Gossip that adds a contradiction to each vote of this signer, before it or after it in turns. */
export function equivocatingGossip(gossip: Gossip, signer: ConsensusSigner, networkId: Uint8Array): Gossip {
  const contradiction = ({ body }: Vote): Uint8Array => {
    // Something for nothing, nothing for something.
    const blockId = body.blockId === undefined ? domainHash('alice/test-adversary/1') : undefined;
    const other = { ...body, blockId };
    const signature = signer.session.sign(voteSignBytes(networkId, other));
    return encodeVote({ body: other, validator: signer.account.account, signature });
  };
  return {
    subscribe: (topic, handler) => gossip.subscribe(topic, handler),
    publish: async (topic, data) => {
      if (topic !== 'votes') return gossip.publish(topic, data);
      const vote = decodeVote(data);
      const both = [data, contradiction(vote)];
      if ((vote.body.height + vote.body.type) % 2 === 0) both.reverse();
      for (const message of both) await gossip.publish(topic, message);
    },
  };
}
