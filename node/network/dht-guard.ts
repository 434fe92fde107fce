/**
 * What strangers may ask of this node's part of the DHT. kad-dht answers whatever comes, as fast as it comes, and reads any
 * number of messages from one stream; its own requesters send one each.
 *
 * - A stream carries so many bytes and is ended with more.
 * - Values are neither stored nor given: nothing of ours is kept there.
 * - Each message takes a token of its peer, of its address and of all strangers, and waits a while where there is none.
 */
import type { Connection, PeerId, Stream, StreamMessageEvent } from '@libp2p/interface';
import { pause } from './deadline.ts';
import type { Claimant } from './fair-share.ts';
import { TokenBuckets } from './token-bucket.ts';

/** Bytes that one stream may bring: a message has some hundred, with many addresses two thousand. */
export const MAX_DHT_STREAM_BYTES = 8 * 1024;

/** Addresses in one announcement; what a peer with several interfaces has. */
const MAX_ADDRESSES = 32;

/** A key is a hash with a few bytes before it. */
const MAX_KEY_BYTES = 128;

/**
 * Messages a second, and at once after a pause. A peer's pause holds as many as its records are kept; all strangers
 * together cost a quarter of a core at most, at 0.3 ms each.
 */
const RATES = {
  peer: { perSecond: 200, burst: 4_096 },
  address: { perSecond: 400, burst: 8_192 },
  strangers: { perSecond: 800, burst: 8_192 },
} as const;

/** Longest wait for a token, and between two looks. Requesters wait about ten seconds. */
const MAX_WAIT_MS = 4_000;
const LOOK_MS = 100;

/** Thrown inside kad-dht, which ends the stream. */
export class DhtMessageRefusedError extends Error {
  static readonly code = 'ERR_DHT_MESSAGE_REFUSED';
  readonly code = DhtMessageRefusedError.code;
  override readonly name = 'DhtMessageRefusedError';
}

/** What is looked at of a message. */
interface DhtMessage {
  readonly type: string;
  readonly key?: Uint8Array;
  readonly providers?: readonly { readonly multiaddrs: readonly Uint8Array[] }[];
}

/** The part of kad-dht's class that its type does not show. */
interface DhtRpc {
  handleMessage(peer: PeerId, message: DhtMessage): Promise<unknown>;
  onIncomingStream(stream: Stream, connection: Connection): Promise<void>;
}

function rpcOf(dht: unknown): DhtRpc {
  const rpc: unknown = typeof dht === 'object' && dht !== null ? Reflect.get(dht, 'rpc') : undefined;
  if (typeof rpc === 'object' && rpc !== null && 'handleMessage' in rpc && 'onIncomingStream' in rpc)
    return rpc as DhtRpc;
  // Not to be found out in the field: it would leave the DHT open.
  throw new Error('kad-dht no longer has the methods that are guarded here');
}

/** Puts the guard before a DHT that is not started yet. `claimant`: who a connected peer is. */
export function guardDht(dht: unknown, claimant: (peer: PeerId) => Claimant): void {
  const rpc = rpcOf(dht);
  const handle = rpc.handleMessage.bind(rpc);
  const serve = rpc.onIncomingStream.bind(rpc);
  const peers = new TokenBuckets(RATES.peer.perSecond, RATES.peer.burst);
  const addresses = new TokenBuckets(RATES.address.perSecond, RATES.address.burst);
  const strangers = new TokenBuckets(RATES.strangers.perSecond, RATES.strangers.burst);

  rpc.handleMessage = async (peer, message) => {
    check(message);
    const { known, address, peer: name } = claimant(peer);
    await token(peers, name);
    if (!known) {
      if (address !== undefined) await token(addresses, address);
      await token(strangers, '');
    }
    return handle(peer, message);
  };
  rpc.onIncomingStream = (stream, connection) => {
    let bytes = 0;
    stream.addEventListener('message', (event: StreamMessageEvent) => {
      bytes += event.data.byteLength;
      if (bytes > MAX_DHT_STREAM_BYTES) stream.abort(new DhtMessageRefusedError('too many bytes on one stream'));
    });
    return serve(stream, connection);
  };
}

function check({ type, key, providers = [] }: DhtMessage): void {
  if (type === 'PUT_VALUE' || type === 'GET_VALUE') throw new DhtMessageRefusedError('no values are kept here');
  if ((key?.length ?? 0) > MAX_KEY_BYTES) throw new DhtMessageRefusedError(`a key of ${key?.length} bytes`);
  const addresses = providers.reduce((sum, { multiaddrs }) => sum + multiaddrs.length, 0);
  if (providers.length > 1 || addresses > MAX_ADDRESSES)
    throw new DhtMessageRefusedError(`${providers.length} providers with ${addresses} addresses`);
}

async function token(buckets: TokenBuckets, name: string): Promise<void> {
  const end = performance.now() + MAX_WAIT_MS;
  while (!buckets.take(name)) {
    if (performance.now() > end) throw new DhtMessageRefusedError('too many messages');
    await pause(LOOK_MS);
  }
}
