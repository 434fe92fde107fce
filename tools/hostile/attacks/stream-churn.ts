import type { Attack } from '../attack.ts';
import { crowd, keep, rest } from '../attacker/crowd.ts';
import { libp2pProtocols, servedProtocols } from '../attacker/served-protocols.ts';

/** Thousands of streams, none of which is used. */
export const streamChurn: Attack = {
  name: 'stream-churn',
  what: 'four identities open streams on random protocols and reset them at once, thousands in all',
  answers: 'thousands of streams, rapid open and reset',
  quick: false,
  async run(context) {
    const { networkName, victim, cid, random } = context;
    const peers = await crowd(context, 4);
    const ids = [
      ...servedProtocols(cid).map(({ name }) => `/alice/${networkName}/${name}/1`),
      ...libp2pProtocols(networkName),
      '/nobody/speaks/this/1',
    ];
    let opened = 0;
    await Promise.all(
      peers.flatMap((peer) =>
        Array.from({ length: 16 }, () =>
          keep(context, async () => {
            const stream = await peer.open(victim.address, random.pick(ids));
            opened += 1;
            stream.abort(new Error('reset'));
          }),
        ),
      ),
    );
    return [{ what: 'streams could be opened at all', holds: opened > 0, found: `${opened} opened and reset` }];
  },
};

/** Streams of the multiplexer on which not even a protocol is chosen. */
export const bareStreams: Attack = {
  name: 'bare-streams',
  what: 'four identities open thousands of streams of the multiplexer and choose no protocol on them',
  answers: 'thousands of streams',
  quick: false,
  async run(context) {
    const peers = await crowd(context, 4);
    let opened = 0;
    const failures = new Set<string>();
    while (context.pressing()) {
      for (const peer of peers) {
        const connection = await peer.connect(context.victim.address).catch(() => undefined);
        const muxer: unknown = connection === undefined ? undefined : Reflect.get(connection, 'muxer');
        if (!makesStreams(muxer)) continue;
        for (let index = 0; index < 50; index++) {
          try {
            await muxer.createStream({});
            opened += 1;
          } catch (error) {
            failures.add((error as Error).name);
            break;
          }
        }
      }
      await rest(20);
    }
    const found = `${opened} opened; refusals: ${[...failures].join(', ') || 'none'}`;
    return [{ what: 'streams could be opened at all', holds: opened > 0, found }];
  },
};

function makesStreams(muxer: unknown): muxer is { createStream(options: object): Promise<unknown> } {
  return typeof muxer === 'object' && muxer !== null && 'createStream' in muxer;
}
