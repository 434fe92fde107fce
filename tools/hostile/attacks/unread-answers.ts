import { cidDigest } from '../../../node/blobs/manifest.ts';
import { BLOB_PROTOCOL, encodeRequest, KIND } from '../../../node/blobs/wire.ts';
import type { Attack } from '../attack.ts';
import { crowd, rest } from '../attacker/crowd.ts';
import { push } from '../attacker/raw-peer.ts';

/** Requests that each identity sends at a time. */
const REQUESTS = 16;

/** Finding 8: answers that nobody reads must not be held without bound. */
export const unreadAnswers: Attack = {
  name: 'unread-answers',
  what: 'eight identities ask for chunks of a megabyte, as many as they may, and read none of them',
  answers: 'finding 8',
  quick: true,
  async run(context) {
    const { victim, cid, arena } = context;
    const peers = await crowd(context, 8);
    const frame = (index: number) => {
      const request = encodeRequest({ kind: KIND.chunk, digest: cidDigest(cid), index });
      const header = Buffer.alloc(4);
      header.writeUInt32BE(request.length);
      return Buffer.concat([header, request]);
    };
    let asked = 0;
    const more = async () => {
      await Promise.all(
        peers.map(async (peer) => {
          const open = peer.streams.filter(({ status }) => status === 'open');
          peer.streams.splice(0, peer.streams.length, ...open);
          for (let index = peer.streams.length; index < REQUESTS; index++) {
            try {
              const stream = await peer.openRequest(victim.address, BLOB_PROTOCOL);
              // Nobody listens, so nothing is read, and the window is never made larger.
              stream.pause();
              push(stream, frame(0));
              peer.streams.push(stream);
              asked += 1;
            } catch {
              return;
            }
          }
        }),
      );
    };
    while (context.pressing()) {
      await more();
      await rest(50);
    }
    await arena.ask('say', `asked for ${asked} chunks and read none`);
    return [{ what: 'requests were taken', holds: asked >= 8, found: `${asked} asked` }];
  },
};
