/** Messages of the DHT (libp2p's Kademlia), by hand: the fields of dht.proto that an attacker needs. */
import { multiaddr } from '@multiformats/multiaddr';
import { bytesField, delimited, numberField } from './protobuf.ts';

/** Type numbers of dht.proto. */
export const DHT_TYPE = { putValue: 0, getValue: 1, addProvider: 2, getProviders: 3, findNode: 4, ping: 5 } as const;

/** A query for a key, with its length. */
export function dhtQuery(type: number, key: Uint8Array): Uint8Array {
  return delimited(Buffer.concat([numberField(1, type), bytesField(2, key), numberField(10, 0)]));
}

/** "`provider` has `key`", with its length. `key`: the multihash of the CID; `provider`: peer id as a multihash. */
export function addProvider(key: Uint8Array, provider: Uint8Array, address: string): Uint8Array {
  const peer = Buffer.concat([
    bytesField(1, provider),
    bytesField(2, multiaddr(address).bytes),
    // CAN_CONNECT
    numberField(3, 2),
  ]);
  return delimited(
    Buffer.concat([numberField(1, DHT_TYPE.addProvider), bytesField(2, key), bytesField(9, peer), numberField(10, 0)]),
  );
}
