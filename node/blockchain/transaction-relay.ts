/** Transactions on their way from gossip into the mempool; what is refused is not passed on. */
import { TransactionRefusedError } from '../mempool/errors.ts';
import type { Gossip } from '../network/interface.ts';
import type { Blockchain } from './blockchain.ts';

/** Subscribes; returns a function that ends it. */
export function relayTransactions(gossip: Gossip, chain: Pick<Blockchain, 'submit'>): () => void {
  return gossip.subscribe('transactions', async (data) => {
    try {
      await chain.submit(data, 'gossip');
    } catch (error) {
      if (error instanceof TransactionRefusedError) throw error.toGossip();
      throw error;
    }
  });
}
