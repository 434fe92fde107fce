import { u32 } from 'scale-ts';
import { BLOCK_SYNC_PROTOCOL } from '../../../node/consensus/block-sync.ts';
import type { Attack } from '../attack.ts';
import { crowd, keep } from '../attacker/crowd.ts';
import { servedProtocols } from '../attacker/served-protocols.ts';

/** Finding 8: four bytes must not cost the server 18 ms of its event loop. */
export const blockRequests: Attack = {
  name: 'block-requests',
  what: 'eight identities ask for the longest run of blocks, again as soon as they are answered',
  answers: 'finding 8',
  quick: false,
  async run(context) {
    const peers = await crowd(context, 8);
    let [served, refused] = [0, 0];
    await Promise.all(
      peers.map((peer) =>
        keep(context, async () => {
          const { status } = await peer.ask(context.victim.address, BLOCK_SYNC_PROTOCOL, u32.enc(1));
          if (status === 0) served += 1;
          else refused += 1;
        }),
      ),
    );
    await context.arena.ask('say', `${served} requests served, ${refused} refused`);
    return [{ what: 'some requests were answered', holds: served + refused > 0, found: `${served + refused}` }];
  },
};

/** The same on every protocol at once. */
export const requestFlood: Attack = {
  name: 'request-flood',
  what: 'four identities send proper requests on every protocol as fast as they are answered, several at a time',
  answers: 'finding 8',
  quick: false,
  async run(context) {
    const peers = await crowd(context, 4);
    let answered = 0;
    await Promise.all(
      peers.flatMap((peer) =>
        servedProtocols(context.cid).flatMap(({ name, request }) =>
          Array.from({ length: 3 }, () =>
            keep(context, async () => {
              await peer.ask(context.victim.address, name, request);
              answered += 1;
            }),
          ),
        ),
      ),
    );
    return [{ what: 'some requests were answered', holds: answered > 0, found: `${answered}` }];
  },
};
