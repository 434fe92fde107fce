import type { Attack } from '../attack.ts';
import { crowd, rest } from '../attacker/crowd.ts';
import { libp2pProtocols, servedProtocols } from '../attacker/served-protocols.ts';

/** Streams that each identity opens on each protocol. */
const STREAMS = 16;

/** Finding 8: requests that never come must not take the places of those that do. */
export const silentStreams: Attack = {
  name: 'silent-streams',
  what: `four identities hold ${4 * STREAMS} streams open on each protocol and say nothing`,
  answers: 'finding 8',
  quick: true,
  async run(context) {
    const { networkName, victim, cid, arena } = context;
    const peers = await crowd(context, 4);
    let opened = 0;
    const fill = async () => {
      for (const peer of peers) {
        peer.streams.splice(0, peer.streams.length, ...peer.streams.filter(({ status }) => status === 'open'));
        const missing = (protocol: string) =>
          STREAMS - peer.streams.filter((stream) => stream.protocol === protocol).length;
        const ids = [
          ...servedProtocols(cid).map(({ name }) => `/alice/${networkName}/${name}/1`),
          ...libp2pProtocols(networkName),
        ];
        for (const id of ids) {
          for (let index = missing(id); index > 0; index--) {
            try {
              peer.streams.push(await peer.open(victim.address, id));
              opened += 1;
            } catch {
              break;
            }
          }
        }
      }
    };
    while (context.pressing()) {
      await fill();
      await rest(100);
    }
    await arena.ask('say', `opened ${opened} silent streams`);
    return [{ what: 'streams could be opened at all', holds: opened >= 4 * STREAMS, found: `${opened}` }];
  },
};
