import type { Attack } from '../attack.ts';
import { gossipCrowd, rest } from '../attacker/crowd.ts';

/** What is passed on to peers that do not read piles up at who passes it on. */
export const deafGossip: Attack = {
  name: 'deaf-gossip',
  what: 'eight identities join every mesh and then read nothing',
  answers: 'slow readers',
  quick: false,
  async run(context) {
    const peers = await gossipCrowd(context, 8);
    let deaf = 0;
    for (const { peer } of peers) {
      for (const connection of peer.libp2p.getConnections()) {
        // The socket itself: nothing of what the node sends is taken any more.
        const socket: unknown = Reflect.get(connection, 'maConn');
        if (!pauses(socket)) continue;
        socket.pause();
        deaf += 1;
      }
    }
    while (context.pressing()) await rest(100);
    return [{ what: 'peers stopped reading', holds: deaf > 0, found: `${deaf}` }];
  },
};

function pauses(socket: unknown): socket is { pause(): void } {
  return typeof socket === 'object' && socket !== null && 'pause' in socket;
}
