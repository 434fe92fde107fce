import { accountFromPublicKey } from '../../../node/chain/account.ts';
import { approve } from '../../../node/chain/calls.ts';
import { encodeTransaction, TRANSACTION_VERSION } from '../../../node/chain/transaction.ts';
import { gossipSettings } from '../../../node/network/settings.ts';
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
  what: `fresh peers send ${IN_ONE_RPC} wrongly signed transactions at once, in one RPC and in as many as it takes`,
  answers: 'finding 7',
  quick: false,
  async run(context) {
    const { arena, victim, seconds, networkName } = context;
    // What a node takes in one RPC; what has more is not read at all, so both are tried.
    const taken = gossipSettings(networkName, 1).decodeRpcLimits?.maxMessages ?? IN_ONE_RPC;
    const before = (await arena.ask('look', 'victim')).gossip.transactions?.accepted ?? 0;
    let sent = 0;
    for (const [turn, identity] of identities(context, Math.max(2, Math.ceil(seconds))).entries()) {
      if (turn >= 2 && !context.pressing()) break;
      const { height } = await arena.ask('look', 'victim');
      const peer = await GossipPeer.join(victim.address, identity);
      context.afterwards(() => peer.stop());
      const messages = [];
      for (let index = 0; index < IN_ONE_RPC; index++) {
        messages.push(await peer.message('transactions', forged(context, height)));
      }
      const inOne = turn % 2 === 0 ? IN_ONE_RPC : Math.min(IN_ONE_RPC, taken);
      for (let at = 0; at < messages.length; at += inOne) {
        if (!(await peer.send({ messages: messages.slice(at, at + inOne) }))) break;
        sent += inOne;
      }
      await rest(500);
    }
    await rest(1_000);
    const { waitingTransactions, gossip, verdicts } = await arena.ask('look', 'victim');
    // Those of honest nodes arrive meanwhile, a few a second.
    const accepted = (gossip.transactions?.accepted ?? 0) - before;
    const said = Object.entries(verdicts)
      .filter(([code]) => code.startsWith('transactions '))
      .map(([code, count]) => `${code.slice(13)} ${count}`);
    return [
      { what: 'transactions were sent', holds: sent > 0, found: `${sent}; ${said.join(', ')}` },
      {
        what: 'no forged transaction is passed on or waits for a block',
        holds: accepted < IN_ONE_RPC / 4 && waitingTransactions < 50,
        found: `${accepted} accepted, ${waitingTransactions} wait`,
      },
    ];
  },
};
