import { createHash } from 'node:crypto';
import type { Connection, Stream } from '@libp2p/interface';
import { base58btc } from 'multiformats/bases/base58';
import { Bytes, Struct, u8, u32, u64 } from 'scale-ts';
import { MAX_MANIFEST_BYTES } from '../../../node/blobs/manifest.ts';
import { BLOB_PROTOCOL, decodeRequest, encodeOpened, encodePresent, KIND } from '../../../node/blobs/wire.ts';
import { Vector } from '../../../node/chain/codec.ts';
import { readFrame, writeFrame } from '../../../node/network/frames.ts';
import { cidFromDigest, dhtProtocolId, parseCid, protocolId } from '../../../node/network/names.ts';
import type { Attack, AttackContext } from '../attack.ts';
import { identities, rest } from '../attacker/crowd.ts';
import { addProvider } from '../attacker/dht-message.ts';
import { pushAll, RawPeer } from '../attacker/raw-peer.ts';

/** Wire form of a manifest (`node/blobs/manifest.ts`), here without its checks. */
const manifestCodec = Struct({ version: u8, size: u64, chunkBytes: u32, chunks: Vector(Bytes(32)) });

type Answer = (request: Uint8Array) => Uint8Array | 'nothing' | 'endless';

/** Serves the blob protocol with whatever `answer` says; "endless" sends until it is cut off. */
function liar(answer: Answer): (stream: Stream, connection: Connection) => void {
  return (stream) => {
    const signal = AbortSignal.timeout(30_000);
    void (async () => {
      const { body } = await readFrame(stream, { maxBytes: 1_000, signal });
      const said = answer(body);
      if (said === 'nothing') return;
      if (said === 'endless') {
        // Announces little less than the limit, and then never stops.
        await pushAll(stream, Uint8Array.of(0, 0, 16, 0, 0));
        while (await pushAll(stream, new Uint8Array(64 * 1024)));
        return;
      }
      await writeFrame(stream, said, { prefix: Uint8Array.of(0), signal });
      await stream.close({ signal });
    })().catch(() => {});
  };
}

/** A manifest of as many chunks as an answer can hold, none of which exists; and the CID that it has. */
function hugeManifest(context: AttackContext): { cid: string; encoded: Uint8Array } {
  const count = Math.floor((MAX_MANIFEST_BYTES - 17) / 32);
  const chunkBytes = 1024 * 1024;
  const chunks = Array.from({ length: count }, () => context.random.bytes(32));
  const encoded = manifestCodec.enc({ version: 1, size: BigInt(count) * BigInt(chunkBytes), chunkBytes, chunks });
  return { cid: cidFromDigest(createHash('sha256').update(encoded).digest()).toString(), encoded };
}

/** Tells the victim that a peer has a blob. */
async function claim(context: AttackContext, peer: RawPeer, cid: string): Promise<void> {
  const stream = await peer.open(context.victim.address, dhtProtocolId(context.networkName));
  const [address] = peer.libp2p.getMultiaddrs();
  if (address === undefined) return;
  const own = peer.libp2p.peerId.toMultihash().bytes;
  await pushAll(stream, addProvider(parseCid(cid).multihash.bytes, own, address.toString()));
}

/** Providers that have something else than they say. */
export const lyingProviders: Attack = {
  name: 'lying-providers',
  what: 'providers of a blob send false chunks, false and huge manifests, endless answers, or nothing; one has it',
  answers: 'false chunks, endless manifests',
  quick: true,
  async run(context) {
    const { arena, networkName, otherCid, random, victim } = context;
    const huge = hugeManifest(context);
    const honestAnswer = async (request: Uint8Array) => {
      // The true manifest, fetched from who has it, so that the lie comes with the chunks.
      const stolen = await thief.ask(context.other.address, BLOB_PROTOCOL, request);
      return stolen.body;
    };
    const thief = await RawPeer.start({ networkName, name: `thief/${context.seed}/${process.pid}` });
    context.afterwards(() => thief.stop());
    const wanted = parseCid(otherCid).multihash.digest;
    const open = Buffer.concat([Uint8Array.of(KIND.open), wanted, new Uint8Array(4)]);
    const manifest = await honestAnswer(open);
    let asked = 0;
    const answers: readonly Answer[] = [
      (request) => {
        const { kind } = decodeRequest(request);
        return kind === KIND.chunk ? encodePresent(random.bytes(1024 * 1024)) : manifest;
      },
      () => encodeOpened({ manifest: huge.encoded, have: undefined, chunk: undefined }),
      () => random.bytes(1 + random.below(2_000)),
      () => 'endless',
      () => 'nothing',
    ];
    const names = identities(context, answers.length);
    const liars = await Promise.all(
      answers.map(async (answer, index) => {
        const identity = names[index];
        if (identity === undefined) throw new Error('no identity');
        const counted: Answer = (request) => {
          asked += 1;
          return answer(request);
        };
        const peer = await RawPeer.start({
          ...identity,
          serves: { [protocolId(networkName, BLOB_PROTOCOL)]: liar(counted), [dhtProtocolId(networkName)]: () => {} },
        });
        context.afterwards(() => peer.stop());
        await peer.connect(victim.address);
        await claim(context, peer, otherCid);
        await claim(context, peer, huge.cid);
        return peer;
      }),
    );
    await arena.ask('say', `${liars.length} liars are in place`);
    const fromMs = performance.now();
    const outcome = await arena.ask('fetch', { cid: otherCid, timeoutMs: 60_000 });
    const tookMs = performance.now() - fromMs;
    const never = await arena.ask('fetch', { cid: huge.cid, timeoutMs: 3_000 });
    while (context.pressing()) await rest(100);
    const remembered = (await arena.ask('look', 'victim')).liars;
    const honestBlamed = remembered.includes(context.other.peer);
    return [
      {
        what: 'the blob arrives all the same',
        holds: 'bytes' in outcome,
        found: `${JSON.stringify(outcome)} after ${tookMs.toFixed(0)} ms; liars were asked ${asked} times`,
      },
      {
        what: 'a blob over the limit is refused by its manifest',
        holds: 'code' in never,
        found: JSON.stringify(never),
      },
      {
        what: 'no honest provider is taken for a liar',
        holds: !honestBlamed,
        found: `${remembered.length} of ${liars.length} liars are remembered`,
      },
    ];
  },
};

/** Finding 2: one name for a blob, and no other. */
export const foreignCidNames: Attack = {
  name: 'foreign-cid-names',
  what: 'the victim is made to fetch a blob under its name in base58, and in upper case',
  answers: 'finding 2',
  quick: true,
  async run(context) {
    const { arena, otherCid, other } = context;
    const cid = parseCid(otherCid);
    const names = [cid.toString(base58btc), otherCid.toUpperCase()];
    const outcomes = await Promise.all(names.map((name) => arena.ask('fetch', { cid: name, timeoutMs: 4_000 })));
    const { liars } = await arena.ask('look', 'victim');
    const outcome = await arena.ask('fetch', { cid: otherCid, timeoutMs: 20_000 });
    while (context.pressing()) await rest(100);
    return [
      {
        what: 'who has the blob is not taken for a liar',
        holds: !liars.includes(other.peer),
        found: `${liars.length} liars; ${JSON.stringify(outcomes)}`,
      },
      { what: 'the blob is there under its own name', holds: 'bytes' in outcome, found: JSON.stringify(outcome) },
    ];
  },
};
