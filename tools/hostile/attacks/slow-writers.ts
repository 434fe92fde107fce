import type { Attack } from '../attack.ts';
import { crowd, rest } from '../attacker/crowd.ts';
import { push } from '../attacker/raw-peer.ts';
import { servedProtocols } from '../attacker/served-protocols.ts';

/** A byte is sent this often. */
const BYTE_MS = 1_000;

/** Requests that come so slowly that they never end. */
export const slowWriters: Attack = {
  name: 'slow-writers',
  what: 'four identities send a request on each protocol, a byte a second, as many at a time as they may',
  answers: 'finding 8, slow writers',
  quick: false,
  async run(context) {
    const { victim, cid } = context;
    const peers = await crowd(context, 4);
    let [opened, cut] = [0, 0];
    while (context.pressing()) {
      for (const peer of peers) {
        for (const { name } of servedProtocols(cid)) {
          for (let index = 0; index < 8; index++) {
            if (peer.streams.length > 400) break;
            try {
              peer.streams.push(await peer.openRequest(victim.address, name));
              opened += 1;
            } catch {
              break;
            }
          }
        }
        for (const stream of peer.streams) push(stream, Uint8Array.of(0));
        const open = peer.streams.filter(({ status }) => status === 'open');
        cut += peer.streams.length - open.length;
        peer.streams.splice(0, peer.streams.length, ...open);
      }
      await rest(BYTE_MS);
    }
    return [{ what: 'streams could be opened at all', holds: opened > 0, found: `${opened} opened, ${cut} cut` }];
  },
};
