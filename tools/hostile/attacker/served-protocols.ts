/** The request protocols that every node serves, with a request of each that an honest peer could send. */
import { Struct, u32 } from 'scale-ts';
import { cidDigest } from '../../../node/blobs/manifest.ts';
import { BLOB_LIMITS, BLOB_PROTOCOL, encodeRequest, KIND } from '../../../node/blobs/wire.ts';
import { hashCodec, Vector } from '../../../node/chain/codec.ts';
import { BLOCK_SYNC_LIMITS, BLOCK_SYNC_PROTOCOL } from '../../../node/consensus/block-sync.ts';
import { CATCH_UP_LIMITS, CATCH_UP_PROTOCOL } from '../../../node/consensus/catch-up.ts';
import type { ProtocolLimits } from '../../../node/network/interface.ts';
import { dhtProtocolId } from '../../../node/network/names.ts';
import {
  chunkRequestCodec,
  heightRequestCodec,
  LIGHT_BLOCK_LIMITS,
  LIGHT_BLOCK_PROTOCOL,
  STATE_CHUNK_LIMITS,
  STATE_CHUNK_PROTOCOL,
  STATE_OFFER_LIMITS,
  STATE_OFFER_PROTOCOL,
} from '../../../node/state-sync/protocol.ts';

export interface ServedProtocol {
  readonly name: string;
  readonly limits: ProtocolLimits;
  readonly request: Uint8Array;
}

/** Wire form of a catch-up request (`catch-up.ts`), which the node keeps to itself. */
const catchUpCodec = Struct({
  height: u32,
  rounds: Vector(u32),
  have: Vector(Struct({ round: u32, blockId: hashCodec })),
});

/** All of them. `cid`: a blob that is there. */
export function servedProtocols(cid: string): readonly ServedProtocol[] {
  return [
    { name: BLOCK_SYNC_PROTOCOL, limits: BLOCK_SYNC_LIMITS, request: u32.enc(1) },
    {
      name: CATCH_UP_PROTOCOL,
      limits: CATCH_UP_LIMITS,
      request: catchUpCodec.enc({ height: 1, rounds: [], have: [] }),
    },
    {
      name: BLOB_PROTOCOL,
      limits: BLOB_LIMITS,
      request: encodeRequest({ kind: KIND.open, digest: cidDigest(cid), index: 0 }),
    },
    { name: LIGHT_BLOCK_PROTOCOL, limits: LIGHT_BLOCK_LIMITS, request: heightRequestCodec.enc({ height: 1 }) },
    { name: STATE_OFFER_PROTOCOL, limits: STATE_OFFER_LIMITS, request: new Uint8Array(0) },
    {
      name: STATE_CHUNK_PROTOCOL,
      limits: STATE_CHUNK_LIMITS,
      request: chunkRequestCodec.enc({ height: 128, depth: 0, position: 0 }),
    },
  ];
}

/** Ids of libp2p's own protocols that a node of the network answers. */
export function libp2pProtocols(networkName: string): readonly string[] {
  return [
    dhtProtocolId(networkName),
    `/alice/${networkName}/id/1.0.0`,
    `/alice/${networkName}/id/push/1.0.0`,
    `/alice/${networkName}/ping/1.0.0`,
    '/meshsub/1.1.0',
  ];
}
