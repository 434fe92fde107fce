/**
 * Module parameters: the policies of the network, and what genesis fixed for good.
 */
import { Bytes, type CodecType, enhanceCodec, Struct, str, u32, u64 } from 'scale-ts';
import { hashCodec } from '../chain/codec.ts';
import { canonicalJson } from '../chain/genesis.ts';
import type { Parameters } from '../chain/parameters.ts';
import type { StateRecord } from './draft.ts';

const parametersCodec = enhanceCodec(str, canonicalJson, (text: string) => JSON.parse(text) as Parameters);

/** The parameters in force. Votes change them (`parameter-votes.ts`). */
export const PARAMETERS: StateRecord<Parameters> = { key: 'parameters', codec: parametersCodec };

/** The parameters of genesis: what votes may change them to is measured from here (`parameter-bounds.ts`). */
export const GENESIS_PARAMETERS: StateRecord<Parameters> = { key: 'parameters/genesis', codec: parametersCodec };

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
