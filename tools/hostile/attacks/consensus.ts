import { setTimeout as pause } from 'node:timers/promises';
import { Bytes, Struct, u32 } from 'scale-ts';
import {
  decodeBlock,
  decodeProposal,
  encodeBlock,
  encodeProposal,
  encodeVote,
  type Proposal,
} from '../../../node/chain/block.ts';
import { Vector } from '../../../node/chain/codec.ts';
import { BLOCK_SYNC_PROTOCOL } from '../../../node/consensus/block-sync.ts';
import { CATCH_UP_PROTOCOL } from '../../../node/consensus/catch-up.ts';
import { readFrame, writeFrame } from '../../../node/network/frames.ts';
import { protocolId, topicName } from '../../../node/network/names.ts';
import type { Attack, AttackContext } from '../attack.ts';
import { gossipCrowd, identities, keep, rest } from '../attacker/crowd.ts';
import { GossipPeer } from '../attacker/gossip-peer.ts';

/** The same signed header with another body. */
function withAnotherBody({ random }: AttackContext, proposal: Proposal): Uint8Array {
  const block = decodeBlock(proposal.block);
  const forged = { ...block, transactions: [...block.transactions, random.bytes(100)] };
  return encodeProposal({ ...proposal, block: encodeBlock(forged) });
}

/** Finding 1: the header is signed, the body is not. */
export const forgedBodies: Attack = {
  name: 'forged-bodies',
  what: 'a peer nearer to both validators than they are to each other passes each proposal on with another body',
  answers: 'finding 1',
  quick: false,
  apartMs: 600,
  async run(context) {
    const { victim, other, networkName, arena } = context;
    const [first, second, third, fourth] = identities(context, 4);
    if (first === undefined || second === undefined || third === undefined || fourth === undefined)
      throw new Error('no identities');
    const topic = topicName(networkName, 'proposals');
    // Two listen, two forge: what it costs the forgers must not make the listeners deaf.
    const ears = [await GossipPeer.join(victim.address, first), await GossipPeer.join(other.address, second)] as const;
    const mouths = [
      await GossipPeer.join(victim.address, third),
      await GossipPeer.join(other.address, fourth),
    ] as const;
    for (const peer of [...ears, ...mouths]) context.afterwards(() => peer.stop());
    let forged = 0;
    const passOn = (from: GossipPeer, to: GossipPeer) =>
      from.onMessage((message) => {
        if (message.topic !== topic || message.data === undefined) return;
        try {
          const bytes = withAnotherBody(context, decodeProposal(new Uint8Array(message.data)));
          void to.publish('proposals', bytes);
          forged += 1;
        } catch {
          // Not a proposal that could be forged.
        }
      });
    passOn(ears[0], mouths[1]);
    passOn(ears[1], mouths[0]);
    const before = (await arena.ask('look', 'victim')).height;
    while (context.pressing()) await rest(50);
    // At least some, however busy the machine is: a quick run may end before the first proposal.
    for (let wait = 0; forged < 3 && wait < 200; wait++) await pause(100);
    const after = (await arena.ask('look', 'victim')).height;
    const { connected } = await arena.ask('regard', other.peer);
    return [
      { what: 'bodies were forged', holds: forged > 0, found: `${forged}` },
      { what: 'blocks are made all the same', holds: after > before, found: `${after - before} blocks` },
      { what: 'the proposer is not held responsible', holds: connected, found: connected ? 'connected' : 'dropped' },
    ];
  },
};

/** Finding 14: votes of the next height wait, unchecked, in a buffer that is everybody's. */
export const earlyVotes: Attack = {
  name: 'early-votes',
  what: 'four identities fill the place where votes and proposals of the next height wait, with such as nobody signed',
  answers: 'finding 14',
  quick: false,
  async run(context) {
    const { arena, random, genesis } = context;
    const peers = await gossipCrowd(context, 4);
    const validators = genesis.validators.map(({ address }) => address);
    const [own] = [random.bytes(32).reduce((text, byte) => text + byte.toString(16).padStart(2, '0'), '')];
    let [sent, height] = [0, 0];
    const watching = keep(context, async () => {
      ({ height } = await arena.ask('look', 'victim'));
      await rest(100);
    });
    await Promise.all([
      watching,
      ...peers.map((peer) =>
        keep(context, async () => {
          const messages = [];
          for (let index = 0; index < 40; index++) {
            const vote = encodeVote({
              body: {
                type: random.below(2),
                height: height + 1 + random.below(3),
                round: random.below(1_000),
                blockId: Buffer.from(random.bytes(32)).toString('hex') as never,
              },
              validator: own as never,
              signature: random.bytes(64),
            });
            messages.push(await peer.message('votes', vote));
          }
          if (!(await peer.send({ messages }))) throw new Error('cut');
          sent += messages.length;
          await rest(20);
        }),
      ),
    ]);
    return [
      { what: 'votes were sent', holds: sent > 0, found: `${sent}, for heights of ${validators.length} validators` },
    ];
  },
};

const catchUpAnswer = Struct({ finalizedHeight: u32, proposals: Vector(Bytes()), votes: Vector(Bytes()) });
const blockAnswer = Vector(Struct({ block: Bytes(), commit: Bytes() }));

/** Peers that say they are far ahead, and have nothing, nonsense, or no hurry. */
export const lyingSyncPeers: Attack = {
  name: 'lying-sync-peers',
  what: 'six peers say that they are a million blocks ahead and answer with nothing, nonsense, or not at all',
  answers: 'silent, slow and lying sync peers',
  quick: false,
  async run(context) {
    const { arena, victim, networkName, random } = context;
    let asked = 0;
    const kinds: readonly ((request: Uint8Array) => Uint8Array | undefined)[] = [
      () => blockAnswer.enc([]),
      () => random.bytes(10_000),
      () => blockAnswer.enc([{ block: random.bytes(500), commit: random.bytes(500) }]),
      () => undefined,
      () => blockAnswer.enc(Array.from({ length: 256 }, () => ({ block: random.bytes(50), commit: random.bytes(50) }))),
      () => undefined,
    ];
    const names = identities(context, kinds.length);
    const serve =
      (answer: (request: Uint8Array) => Uint8Array | undefined) => (stream: import('@libp2p/interface').Stream) => {
        const signal = AbortSignal.timeout(60_000);
        void (async () => {
          const { body } = await readFrame(stream, { maxBytes: 10_000, signal });
          asked += 1;
          const said = answer(body);
          if (said === undefined) return;
          await writeFrame(stream, said, { prefix: Uint8Array.of(0), signal });
          await stream.close({ signal });
        })().catch(() => {});
      };
    const addresses: string[] = [];
    for (const [index, kind] of kinds.entries()) {
      const identity = names[index];
      if (identity === undefined) throw new Error('no identity');
      const ahead = () => catchUpAnswer.enc({ finalizedHeight: 1_000_000, proposals: [], votes: [] });
      const peer = await GossipPeer.join(victim.address, {
        ...identity,
        serves: {
          [protocolId(networkName, CATCH_UP_PROTOCOL)]: serve(ahead),
          [protocolId(networkName, BLOCK_SYNC_PROTOCOL)]: serve(kind),
        },
      });
      context.afterwards(() => peer.stop());
      addresses.push(...peer.peer.libp2p.getMultiaddrs().map(String));
    }
    const tookMs = await arena.ask('observer', { bootstrap: [victim.address, ...addresses], limitMs: 60_000 });
    while (context.pressing()) await rest(100);
    return [
      {
        what: 'a node that begins at genesis catches up in spite of them',
        holds: tookMs !== null,
        found: `${tookMs === null ? 'not within 60 s' : `after ${tookMs.toFixed(0)} ms`}; liars were asked ${asked} times`,
      },
    ];
  },
};
