/**
 * Documents to shards: first the held-out ones, then, from other documents, those for training.
 */
import { createHash } from 'node:crypto';
import type { ShardEntry } from '../shard/manifest.ts';
import { encodeShard } from '../shard/shard.ts';
import type { ShardPlan } from './plan.ts';

/** Shards of a corpus. */
export interface PackedShards {
  readonly training: readonly ShardEntry[];
  readonly heldOut: readonly ShardEntry[];
  readonly heldOutDocuments: number;
}

/**
 * Packs documents (tokens with their end-of-text) one after the other into shards of exactly `shardTokens` tokens and
 * hands each file to `write`. Documents go to the held-out shards until these are full; the rest of the last such document
 * goes nowhere, so no document is in shards of both kinds. What does not fill a last training shard is left out, too.
 * Holds one shard.
 */
export async function packShards(
  documents: AsyncIterable<Uint16Array>,
  plan: ShardPlan & { readonly vocabulary: number },
  write: (entry: ShardEntry, bytes: Uint8Array) => Promise<void>,
): Promise<PackedShards> {
  const heldOut: ShardEntry[] = [];
  const training: ShardEntry[] = [];
  const heldOutHashes = new Set<string>();
  let heldOutDocuments = 0;
  const tokens = new Uint16Array(plan.shardTokens);
  let filled = 0;
  for await (const document of documents) {
    const isHeldOut = heldOut.length < plan.heldOutShards;
    if (isHeldOut) heldOutDocuments++;
    for (let taken = 0; taken < document.length; ) {
      const part = document.subarray(taken, taken + plan.shardTokens - filled);
      tokens.set(part, filled);
      taken += part.length;
      filled += part.length;
      if (filled < plan.shardTokens) break;
      filled = 0;
      const bytes = encodeShard({ vocabulary: plan.vocabulary, tokens });
      const sha256 = createHash('sha256').update(bytes).digest('hex');
      // Different documents give equal shards only when both repeat the same words for a whole shard.
      if (!isHeldOut && heldOutHashes.has(sha256)) continue;
      const entry = { file: `${sha256}.shard`, sha256, tokens: plan.shardTokens };
      await write(entry, bytes);
      if (!isHeldOut) {
        training.push(entry);
        continue;
      }
      heldOut.push(entry);
      heldOutHashes.add(sha256);
      if (heldOut.length === plan.heldOutShards) break;
    }
  }
  return { training, heldOut, heldOutDocuments };
}
