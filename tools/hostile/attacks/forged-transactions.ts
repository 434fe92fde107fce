import { accountFromPublicKey } from '../../../node/chain/account.ts';
import { approve } from '../../../node/chain/calls.ts';
import { encodeTransaction, TRANSACTION_VERSION } from '../../../node/chain/transaction.ts';
import type { Attack, AttackContext } from '../attack.ts';
import { identities, rest } from '../attacker/crowd.ts';
import { GossipPeer } from '../attacker/gossip-peer.ts';

/** Transactions in one RPC, as in the finding. */
const IN_ONE_RPC = 600;

/** A well-formed transaction of an account that nobody has, with a signature that is none. */
function forged({ random }: AttackContext, height: number): Uint8Array {
  const signer = accountFromPublicKey(random.bytes(32));
  const signature = random.bytes(64);
  // The mark of sr25519's newer signatures, without which they are refused before any arithmetic.
  signature[63] = (signature[63] ?? 0) | 128;
  return encodeTransaction({
    body: {
      version: TRANSACTION_VERSION,
      signer,
      nonce: 0,
      validUntil: height + 50,
      tip: 0,
      call: approve(signer, BigInt(random.below(1_000_000)) as never),
    },
    signature,
  });
}

/** Finding 7: checks of signatures must not stop the event loop, whoever asks for them. */
export const forgedTransactions: Attack = {
  name: 'forged-transactions',
  what: `fresh peers send ${IN_ONE_RPC} wrongly signed transactions in one RPC, one peer after the other`,
  answers: 'finding 7',
  quick: true,
  async run(context) {
    const { arena, victim, seconds } = context;
    let sent = 0;
    const senders: GossipPeer[] = [];
    for (const identity of identities(context, Math.max(2, Math.ceil(seconds)))) {
      if (!context.pressing()) break;
      const { height } = await arena.ask('look', 'victim');
      const peer = await GossipPeer.join(victim.address, identity);
      context.afterwards(() => peer.stop());
      senders.push(peer);
      const messages = [];
      for (let index = 0; index < IN_ONE_RPC; index++) {
        messages.push(await peer.message('transactions', forged(context, height)));
      }
      await peer.send({ messages });
      sent += IN_ONE_RPC;
      await rest(500);
    }
    await rest(1_000);
    const first = senders[0];
    const { score, connected } =
      first === undefined ? { score: 0, connected: true } : await arena.ask('regard', first.peer.peerId);
    const { waitingTransactions } = await arena.ask('look', 'victim');
    return [
      { what: 'transactions were sent', holds: sent > 0, found: `${sent}` },
      {
        what: 'who sends forged transactions loses its standing',
        holds: score < 0 || !connected,
        found: `score ${score.toFixed(1)}, ${connected ? 'connected' : 'dropped'}`,
      },
      {
        what: 'no forged transaction waits for a block',
        holds: waitingTransactions < 50,
        found: `${waitingTransactions} wait`,
      },
    ];
  },
};
