import { generateKeyPairFromSeed } from '@libp2p/crypto/keys';
import { peerIdFromPrivateKey, peerIdFromString } from '@libp2p/peer-id';
import { dhtProtocolId, parseCid, rendezvousCid } from '../../../node/network/names.ts';
import type { Attack } from '../attack.ts';
import { crowd, keep } from '../attacker/crowd.ts';
import { addProvider, DHT_TYPE, dhtQuery } from '../attacker/dht-message.ts';
import { push, pushAll } from '../attacker/raw-peer.ts';

/** Finding 12: strangers' records must not push out those of who really has a blob. */
export const providerSpam: Attack = {
  name: 'provider-spam',
  what: '200 identities claim to have a blob that one peer has, and each claims thousands that do not exist',
  answers: 'finding 12, provider-record spam',
  quick: true,
  async run(context) {
    const { victim, other, otherCid, networkName, random, arena } = context;
    const id = dhtProtocolId(networkName);
    const wanted = parseCid(otherCid).multihash.bytes;
    const meeting = rendezvousCid(networkName).multihash.bytes;
    const peers = await crowd(context, 8);
    const address = '/ip4/127.0.0.1/tcp/9';
    let sent = 0;
    // The DHT takes records from whom they are about only, so the many need connections of their own.
    const many = keep(context, async () => {
      if (sent > 400) return;
      const [peer] = await crowd(context, 1);
      if (peer === undefined) return;
      const own = peer.libp2p.peerId.toMultihash().bytes;
      const stream = await peer.open(victim.address, id);
      for (const key of [wanted, meeting]) await pushAll(stream, addProvider(key, own, address));
      sent += 2;
    });
    const flood = peers.map((peer) =>
      keep(context, async () => {
        const own = peer.libp2p.peerId.toMultihash().bytes;
        const stream = await peer.open(victim.address, id);
        for (let index = 0; index < 200 && context.pressing(); index++) {
          const key = Buffer.concat([Uint8Array.of(0x12, 0x20), random.bytes(32)]);
          const key0 = await generateKeyPairFromSeed('Ed25519', random.bytes(32));
          const said = random.below(2) === 0 ? own : peerIdFromPrivateKey(key0).toMultihash().bytes;
          if (!(await pushAll(stream, addProvider(key, said, address)))) break;
          sent += 1;
        }
        stream.abort(new Error('over'));
      }),
    );
    await Promise.all([many, ...flood]);
    const fromMs = performance.now();
    const outcome = await arena.ask('fetch', { cid: otherCid, timeoutMs: 20_000 });
    const honest = peerIdFromString(other.peer).toString();
    return [
      { what: 'records were sent', holds: sent > 0, found: `${sent}` },
      {
        what: 'the one who has the blob is still found',
        holds: 'bytes' in outcome,
        found: `${JSON.stringify(outcome)} from ${honest.slice(-6)} after ${(performance.now() - fromMs).toFixed(0)} ms`,
      },
    ];
  },
};

/** Every query makes the receiver search and sort its table. */
export const dhtQueries: Attack = {
  name: 'dht-queries',
  what: 'eight identities send FIND_NODE, GET_PROVIDERS, GET_VALUE and PUT_VALUE with random keys at full rate',
  answers: 'DHT query floods',
  quick: false,
  async run(context) {
    const { victim, networkName, random } = context;
    const peers = await crowd(context, 8);
    let sent = 0;
    const types = [DHT_TYPE.findNode, DHT_TYPE.getProviders, DHT_TYPE.getValue, DHT_TYPE.putValue, DHT_TYPE.ping];
    await Promise.all(
      peers.flatMap((peer) =>
        Array.from({ length: 4 }, () =>
          keep(context, async () => {
            const stream = await peer.open(victim.address, dhtProtocolId(networkName));
            // Many on one stream, without waiting for what comes back.
            for (let index = 0; index < 100 && context.pressing(); index++) {
              const key = Buffer.concat([Uint8Array.of(0x12, 0x20), random.bytes(32)]);
              const query = dhtQuery(random.pick(types), key);
              if (!push(stream, query) && !(await pushAll(stream, new Uint8Array(0)))) break;
              sent += 1;
            }
            stream.abort(new Error('over'));
          }),
        ),
      ),
    );
    return [{ what: 'queries were sent', holds: sent > 0, found: `${sent}` }];
  },
};
