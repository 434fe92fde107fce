/**
 * Module parameters: the policies of the network, and what genesis fixed for good.
 */
import { Bytes, type CodecType, enhanceCodec, Struct, str, u32, u64 } from 'scale-ts';
import { hashCodec } from '../chain/codec.ts';
import { canonicalJson } from '../chain/genesis.ts';
import type { Parameters } from '../chain/parameters.ts';
import type { StateRecord } from './draft.ts';

/** Where the parameters are. Governance will change them; nothing does yet. */
export const PARAMETERS: StateRecord<Parameters> = {
  key: 'parameters',
  codec: enhanceCodec(str, canonicalJson, (text) => JSON.parse(text) as Parameters),
};

const chainCodec = Struct({
  genesisHash: hashCodec,
  /** First 8 bytes of the genesis hash. */
  networkId: Bytes(8),
  genesisTimeMs: u64,
  trainingShards: u32,
  heldOutShards: u32,
  shardTokens: u32,
  /** Height and time of the block after which this is the state; 0 and the genesis time at genesis. */
  height: u32,
  timeMs: u64,
});

/** Which network this is and how far it has come. */
export type ChainRecord = Readonly<CodecType<typeof chainCodec>>;

/** Where they are. */
export const CHAIN: StateRecord<ChainRecord> = { key: 'chain', codec: chainCodec };
