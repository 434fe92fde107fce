/**
 * Reading the chain through a node that nobody has to trust: headers and proofs come over its HTTP interface, and are
 * verified here, from a block that the caller trusts.
 */
import * as v from 'valibot';
import { DecodeError, decodeStrict } from '../chain/codec.ts';
import type { Hash } from '../chain/hash.ts';
import type { LightProvider } from '../consensus/light-client/bisect.ts';
import { decodeLightBlock, type LightBlock } from '../consensus/light-client/light-block.ts';
import { type FollowedTrust, followTrust, type TrustedPoint } from '../consensus/light-client/trust.ts';
import type { TrustOptions } from '../consensus/light-client/verify.ts';
import type { StateRecord } from '../ledger/draft.ts';
import { decodeProof, InvalidProofError, verifyProof } from '../ledger/proof.ts';
import { callNode, type Endpoint } from './client.ts';

const hex = v.pipe(v.string(), v.regex(/^([0-9a-f]{2})*$/));
const lightBlockSchema = v.object({ height: v.number(), lightBlock: hex });
const proofSchema = v.object({ proof: hex });
const bytesOf = (text: string) => new Uint8Array(Buffer.from(text, 'hex'));

/** Thrown when what a node says does not hold, or is not what was asked for. */
export class UnprovenAnswerError extends Error {
  static readonly code = 'ERR_UNPROVEN_ANSWER';
  readonly code = UnprovenAnswerError.code;
  override readonly name = 'UnprovenAnswerError';
}

/** Reads an answer. Throws {@link UnprovenAnswerError}. */
function read<T>(schema: v.GenericSchema<unknown, T>, answer: unknown, what: string): T {
  const result = v.safeParse(schema, answer);
  if (!result.success) throw new UnprovenAnswerError(`the node's answer is no ${what}`);
  return result.output;
}

/** What a decoder throws, as an answer that proves nothing. */
function decoded<T>(decode: () => T, what: string): T {
  try {
    return decode();
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
    throw new UnprovenAnswerError(`the node's answer is no ${what}: ${error.message}`, { cause: error });
  }
}

/** Light blocks of a node, unverified. They throw what `callNode` throws, and {@link UnprovenAnswerError}. */
export function remoteLightBlocks(endpoint: Pick<Endpoint, 'api'>): LightProvider<LightBlock> {
  return {
    lightBlock: async (height, { signal }) => {
      const params = { height };
      const answer = await callNode(endpoint, 'lightBlock', params, signal === undefined ? {} : { signal });
      const { lightBlock } = read(lightBlockSchema, answer, 'light block');
      return decoded(() => decodeLightBlock(bytesOf(lightBlock)), 'light block');
    },
  };
}

/** What {@link readVerified} found, and how. */
export interface VerifiedRecord<T> extends FollowedTrust {
  /** Undefined: it is proven that there is no such record. */
  readonly value: T | undefined;
  readonly proofBytes: number;
}

/**
 * The value of a record of the ledger at a height (that of the node's last block, unless given), verified: headers from
 * the trusted block to that height, and the proof against the state root of its header. Throws
 * {@link UnprovenAnswerError} or `UntrustedHeaderError` when something does not hold, and what `callNode` throws.
 */
export async function readVerified<T>(
  endpoint: Pick<Endpoint, 'api'>,
  record: StateRecord<T>,
  asked: {
    readonly trust: TrustedPoint;
    readonly height?: number | undefined;
    readonly options: TrustOptions;
    readonly nowMs: () => number;
    readonly signal?: AbortSignal | undefined;
  },
): Promise<VerifiedRecord<T>> {
  const { trust, options, nowMs, signal } = asked;
  const waiting = signal === undefined ? {} : { signal };
  const height =
    asked.height ?? read(lightBlockSchema, await callNode(endpoint, 'lightBlock', {}, waiting), 'light block').height;
  const provider = remoteLightBlocks(endpoint);
  const followed = await followTrust({ trust, height, provider, options, nowMs, signal });
  const answer = read(proofSchema, await callNode(endpoint, 'proof', { key: record.key, height }, waiting), 'proof');
  const bytes = bytesOf(answer.proof);
  const proof = decoded(() => decodeProof(bytes), 'proof');
  let encoded: Uint8Array | undefined;
  try {
    encoded = verifyProof(followed.block.header.stateRoot as Hash, record.key, proof);
  } catch (error) {
    if (!(error instanceof InvalidProofError)) throw error;
    throw new UnprovenAnswerError(`the proof does not hold: ${error.message}`, { cause: error });
  }
  const value =
    encoded === undefined
      ? undefined
      : decoded(() => decodeStrict(record.codec, encoded, encoded.length, 'record'), 'record');
  return { ...followed, value, proofBytes: bytes.length };
}
