import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import type { Attack, AttackContext } from '../attack.ts';
import { identities, keep, rest } from '../attacker/crowd.ts';
import { RawPeer } from '../attacker/raw-peer.ts';

/** Members of another network find each other through stale lists of addresses, or come on purpose. */
export const otherNetworks: Attack = {
  name: 'other-networks',
  what: 'peers of another network connect, at the rate at which they are refused',
  answers: 'other networks’ peers',
  quick: true,
  async run(context) {
    const { victim, arena } = context;
    let [tried, entered] = [0, 0];
    const strangers = await Promise.all(
      identities(context, 6).map((identity) => RawPeer.start({ ...identity, networkName: 'anothernetwork' })),
    );
    for (const stranger of strangers) context.afterwards(() => stranger.stop());
    await Promise.all(
      strangers.map((stranger) =>
        keep(context, async () => {
          tried += 1;
          await stranger.connect(victim.address, AbortSignal.timeout(2_000));
          entered += 1;
        }),
      ),
    );
    const regards = await Promise.all(strangers.map(({ peerId }) => arena.ask('regard', peerId)));
    return [
      { what: 'connections were tried', holds: tried > 0, found: `${tried}` },
      {
        what: 'none finished the handshake',
        holds: entered === 0 && regards.every(({ connected }) => !connected),
        found: `${entered} did`,
      },
    ];
  },
};

/** TCP connections that say nothing, or stop in the middle of what they say. */
export const connectionFlood: Attack = {
  name: 'connection-flood',
  what: 'hundreds of TCP connections that say nothing, half a handshake, or close their side at once',
  answers: 'connection floods',
  quick: true,
  async run(context) {
    const { victim, random } = context;
    const [identity] = identities(context, 1);
    const sockets = new Set<Socket>();
    context.afterwards(() => {
      for (const socket of sockets) socket.destroy();
    });
    let [opened, most, ended] = [0, 0, 0];
    while (context.pressing()) {
      for (let index = 0; index < 20 && sockets.size < 600; index++) {
        const socket = connect({
          port: victim.port,
          host: '127.0.0.1',
          ...(identity !== undefined && { localAddress: identity.from }),
          allowHalfOpen: true,
        });
        sockets.add(socket);
        socket.on('error', () => {});
        socket.once('close', () => {
          sockets.delete(socket);
          ended += 1;
        });
        socket.once('connect', () => {
          opened += 1;
          const kind = random.below(4);
          // The choice of noise, and then the first bytes of a handshake that never ends.
          if (kind >= 1) socket.write('\x13/multistream/1.0.0\n\x07/noise\n');
          if (kind === 2) socket.write(Buffer.concat([Uint8Array.of(0, 32), random.bytes(32)]));
          if (kind === 3) socket.end();
        });
      }
      most = Math.max(most, sockets.size);
      await rest(50);
    }
    return [
      { what: 'connections were made', holds: opened > 0, found: `${opened}, ${ended} ended, ${most} at a time` },
    ];
  },
};

/** Records what an honest peer says in a handshake, by standing in between. */
async function recorded(context: AttackContext): Promise<Buffer> {
  const pieces: Buffer[] = [];
  const server = createServer((near) => {
    const far = connect(context.victim.port, '127.0.0.1');
    near.on('data', (bytes) => {
      pieces.push(bytes);
      far.write(bytes);
    });
    far.on('data', (bytes) => near.write(bytes));
    for (const [one, two] of [
      [near, far],
      [far, near],
    ] as const) {
      one.on('error', () => {});
      one.on('close', () => two.destroy());
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const { networkName, victim, seed } = context;
  const honest = await RawPeer.start({ networkName, name: `recorded/${seed}` });
  await honest.connect(`/ip4/127.0.0.1/tcp/${address.port}/p2p/${victim.peer}`);
  await rest(500);
  await honest.stop();
  server.close();
  return Buffer.concat(pieces);
}

/** A handshake that was good once. */
export const replayedHandshakes: Attack = {
  name: 'replayed-handshakes',
  what: 'the bytes of a whole connection, recorded between an honest peer and the victim, are sent again and again',
  answers: 'replayed handshakes',
  quick: true,
  async run(context) {
    const { arena, victim } = context;
    const bytes = await recorded(context);
    await rest(300);
    const before = (await arena.ask('look', 'victim')).peers;
    let [replayed, longest] = [0, 0];
    let most = before;
    await Promise.all(
      Array.from({ length: 8 }, () =>
        keep(context, async () => {
          const socket = connect(victim.port, '127.0.0.1');
          socket.on('error', () => {});
          const fromMs = performance.now();
          socket.once('connect', () => socket.write(bytes));
          socket.resume();
          await Promise.race([once(socket, 'close').catch(() => {}), rest(3_000)]);
          longest = Math.max(longest, performance.now() - fromMs);
          socket.destroy();
          replayed += 1;
          if (replayed % 20 === 0) most = Math.max(most, (await arena.ask('look', 'victim')).peers);
          await rest(10);
        }),
      ),
    );
    const recordedPeer = await RawPeer.start({ networkName: context.networkName, name: `recorded/${context.seed}` });
    context.afterwards(() => recordedPeer.stop());
    const { connected } = await arena.ask('regard', recordedPeer.peerId);
    return [
      {
        what: 'handshakes were replayed',
        holds: replayed > 0 && bytes.length > 100,
        found: `${replayed} of ${bytes.length} bytes`,
      },
      { what: 'none of them makes a connection', holds: !connected, found: `at most ${most} peers, ${before} before` },
      { what: 'each is ended soon', holds: longest < 3_000, found: `the longest took ${longest.toFixed(0)} ms` },
    ];
  },
};
