/** Attacks on gossip, each by peers that are connected already. They end by themselves, when done or when cut off. */
import { setTimeout as pause } from 'node:timers/promises';
import { encodeTransaction, TRANSACTION_VERSION, type TransactionBody } from '../../../node/chain/transaction.ts';
import type { AccountSigner } from '../../../node/identity/signatures.ts';
import type { Topic } from '../../../node/network/interface.ts';
import { topicName } from '../../../node/network/names.ts';
import { register } from '../../ledger/harness.ts';
import type { HostileGossipPeer } from './gossip-peer.ts';

/** Well-formed transactions of existing keys with signatures that are not theirs; no two are equal. */
export function forgedTransactions(signers: readonly AccountSigner[], count: number, salt = 0): Uint8Array[] {
  return Array.from({ length: count }, (_, index) => {
    const signer = signers[index % signers.length];
    if (signer === undefined) throw new Error('no signers');
    const body: TransactionBody = {
      version: TRANSACTION_VERSION,
      signer: signer.account,
      nonce: Math.floor(index / signers.length) % 32,
      validUntil: 40,
      tip: 0,
      call: register(`device ${salt}/${index}`),
    };
    const signature = crypto.getRandomValues(new Uint8Array(64));
    // A scalar that is in range and has schnorrkel's mark: nothing but the whole check finds it wrong.
    signature[63] = 0x80 | (signature[63]! & 0x0f);
    return encodeTransaction({ body, signature });
  });
}

/** Random bytes, no two alike: what a topic's handler makes of them is up to it. */
export function uselessMessages(count: number, bytes: number): Uint8Array[] {
  return Array.from({ length: count }, () => crypto.getRandomValues(new Uint8Array(bytes)));
}

/**
 * Sends messages on a topic, `perRpc` in each RPC and `perSecond` in all, as long as the other side reads. Resolves with how
 * many went out.
 */
export async function flood(
  peer: HostileGossipPeer,
  topic: Topic,
  messages: readonly Uint8Array[],
  { perRpc, perSecond }: { readonly perRpc: number; readonly perSecond: number },
): Promise<number> {
  const start = performance.now();
  for (let sent = 0; sent < messages.length; sent += perRpc) {
    const due = start + (sent / perSecond) * 1000 - performance.now();
    if (due > 0) await pause(due);
    const part = messages.slice(sent, sent + perRpc).map((data) => peer.message(topic, data));
    if (!(await peer.send({ messages: part }))) return sent;
  }
  return messages.length;
}

/** RPCs full of control messages: ids that nobody has, asked for and offered, and topics that do not exist. */
export async function floodControl(peer: HostileGossipPeer, network: string, rpcs: number): Promise<void> {
  const ids = (count: number) => uselessMessages(count, 32);
  const topicID = topicName(network, 'transactions');
  for (let index = 0; index < rpcs; index++) {
    const sent = await peer.send({
      subscriptions: Array.from({ length: 10 }, (_, number) => ({
        subscribe: true,
        topic: `nowhere ${index}/${number}`,
      })),
      control: {
        ihave: [{ topicID, messageIDs: ids(2_000) }],
        iwant: [{ messageIDs: ids(250) }],
        idontwant: [{ messageIDs: ids(60) }],
        prune: [{ topicID, peers: [], backoff: 2 ** 40 }],
      },
    });
    if (!sent) return;
  }
}
