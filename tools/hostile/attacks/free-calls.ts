import { genesisBeacon } from '../../../node/chain/beacon.ts';
import { attestModel, commitScores, commitSubmission, registerMiner } from '../../../node/chain/calls.ts';
import { genesisHash } from '../../../node/chain/genesis.ts';
import {
  type Call,
  encodeTransaction,
  TRANSACTION_VERSION,
  type TransactionBody,
  transactionSignBytes,
} from '../../../node/chain/transaction.ts';
import { type AccountSigner, accountSigner, signaturesReady } from '../../../node/identity/signatures.ts';
import { solveRegistration } from '../../../node/registration/solver.ts';
import type { Attack, AttackContext, Claim } from '../attack.ts';
import { gossipCrowd, identities, keep, rest } from '../attacker/crowd.ts';
import { GossipPeer } from '../attacker/gossip-peer.ts';

/** Accounts that nobody knows, made before the attack begins. */
const ACCOUNTS = 64;

/** Transactions of one account that fit into a block. */
const EACH = 16;

/** Bytes of blocks beyond those of an undisturbed run, per block, that are bearable: a few refusable transactions. */
const MAX_BLOCK_BYTES = 4 * 1024;
/** Bytes that the state may grow by under the flood. */
const MAX_STATE_BYTES = 16 * 1024;

function signed(
  context: AttackContext,
  signer: AccountSigner,
  nonce: number,
  validUntil: number,
  call: Call,
): Uint8Array {
  const body: TransactionBody = {
    version: TRANSACTION_VERSION,
    signer: signer.account,
    nonce,
    validUntil,
    tip: 0,
    call,
  };
  return encodeTransaction({ body, signature: signer.sign(transactionSignBytes(context.networkId, body)) });
}

/** Sends what `callOf` says in the name of all accounts, and looks at what became of blocks, state and pool. */
async function flood(context: AttackContext, callOf: (index: number) => Call): Promise<Claim[]> {
  const { arena, random } = context;
  await signaturesReady();
  const signers = Array.from({ length: ACCOUNTS }, () => accountSigner(random.bytes(32)));
  const peers = await gossipCrowd(context, 4);
  const { height } = await arena.ask('look', 'victim');
  const before = await arena.ask('sizes', height + 1);
  let [sent, nonce, most] = [0, 0, 0];
  while (context.pressing() && nonce < 8 * EACH) {
    for (const [index, signer] of signers.entries()) {
      if (!context.pressing()) break;
      const peer = peers[index % peers.length];
      if (peer === undefined || !peer.open) continue;
      const encoded = signed(context, signer, nonce, height + 100, callOf(sent));
      if (await peer.publish('transactions', encoded)) sent += 1;
    }
    nonce += 1;
    most = Math.max(most, (await arena.ask('look', 'victim')).waitingTransactions);
  }
  await rest(1_000);
  const after = await arena.ask('look', 'victim');
  const sizes = await arena.ask('sizes', height + 1);
  const blocks = Math.max(1, after.height - height);
  const perBlock = sizes.blockBytes / blocks;
  const stateGrowth = sizes.stateBytes - before.stateBytes;
  return [
    { what: 'transactions were sent', holds: sent > 0, found: `${sent}` },
    {
      what: `blocks stay under ${MAX_BLOCK_BYTES} bytes on average`,
      holds: perBlock < MAX_BLOCK_BYTES,
      found: `${perBlock.toFixed(0)} bytes, ${sizes.transactions} transactions in ${blocks} blocks`,
    },
    {
      what: `the state grows by less than ${MAX_STATE_BYTES} bytes`,
      holds: stateGrowth < MAX_STATE_BYTES,
      found: `${stateGrowth} bytes`,
    },
    { what: 'the pool holds none of them', holds: most < ACCOUNTS, found: `at most ${most} waited` },
  ];
}

/** Finding 6: what is free is admitted only where it would succeed. */
export const freeCalls: Attack = {
  name: 'free-calls',
  what: `${ACCOUNTS} unknown accounts send duties of validators and miners, properly signed, which cost nothing`,
  answers: 'finding 6',
  quick: true,
  run(context) {
    const hash = () => Buffer.from(context.random.bytes(32)).toString('hex') as never;
    const kinds: readonly (() => Call)[] = [
      () => attestModel(1, hash(), ''),
      () => commitScores(1, hash()),
      () => commitSubmission({ round: 1, attempt: 1 }, 0, hash()),
    ];
    return flood(context, () => context.random.pick(kinds)());
  },
};

/** Finding 6: a registration has a price. */
export const freeRegistrations: Attack = {
  name: 'free-registrations',
  what: `${ACCOUNTS} unknown accounts register as miners without the work that this takes`,
  answers: 'finding 6',
  quick: true,
  run(context) {
    return flood(context, () => registerMiner('flood'));
  },
};

/** Time for a registration that was worked for, while the flood goes on. */
const REGISTRATION_MS = 30_000;

/** How often a newcomer sends its registration again. */
const RESEND_MS = 1_500;

/** Work that was not done has to be checked before it can be called a lie. */
export const falseWork: Attack = {
  name: 'false-work',
  what: 'registrations that claim more work than anybody did, each of which has to be checked; one newcomer did its work',
  answers: 'finding 6',
  quick: false,
  async run(context) {
    const { arena, random, networkId, genesis, other } = context;
    await signaturesReady();
    const honest = accountSigner(random.bytes(32));
    const challenge = genesisBeacon(genesisHash(genesis));
    // The price rises with registrations, of which there are none but this.
    const wanted = () => 2n * BigInt(genesis.parameters.registration.baseWork);
    const signal = AbortSignal.timeout(60_000);
    const work = await solveRegistration({ networkId, account: honest.account, challenge, wanted, signal });
    const peers = await gossipCrowd(context, 4);
    const [identity] = identities(context, 1);
    if (identity === undefined) throw new Error('no identity');
    // It speaks to the other validator, which is not flooded, and the victim has to agree to the block.
    const mouth = await GossipPeer.join(other.address, { ...identity, name: `${identity.name}/honest` });
    context.afterwards(() => mouth.stop());
    const { height } = await arena.ask('look', 'victim');
    let sent = 0;
    const flooding = Promise.all(
      peers.map((peer) =>
        keep(context, async () => {
          const liar = accountSigner(random.bytes(32));
          const claim = { challenge, solution: BigInt(sent), work: 2n ** 60n };
          const encoded = signed(context, liar, 0, height + 500, registerMiner('flood', claim));
          if (!(await peer.publish('transactions', encoded))) throw new Error('cut');
          sent += 1;
        }),
      ),
    );
    const fromMs = performance.now();
    let enlisted = false;
    while (!enlisted && performance.now() - fromMs < REGISTRATION_MS) {
      await mouth.publish('transactions', signed(context, honest, 0, height + 500, registerMiner('honest', work)));
      await rest(RESEND_MS);
      enlisted = await arena.ask('enlisted', honest.account);
    }
    const tookMs = performance.now() - fromMs;
    await flooding;
    return [
      { what: 'false claims were sent', holds: sent > 0, found: `${sent}` },
      {
        what: 'who did its work is registered meanwhile',
        holds: enlisted,
        found: enlisted ? `after ${tookMs.toFixed(0)} ms` : `not within ${REGISTRATION_MS} ms`,
      },
    ];
  },
};
