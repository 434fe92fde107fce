/**
 * A corpus as peers exchange it: its manifest, and which blob holds which shard. One text per corpus, so that equal
 * corpora have equal content ids.
 */
import * as v from 'valibot';
import { CorpusError } from './errors.ts';
import { encodeManifest, type Manifest, parseManifest } from './shard/manifest.ts';

const cids = v.array(v.pipe(v.string(), v.regex(/^[A-Za-z0-9]{8,128}$/)));

const publicationSchema = v.strictObject({
  format: v.literal('alice-corpus-publication/1'),
  manifest: v.unknown(),
  training: cids,
  heldOut: cids,
});

/** Manifest and content ids, in the order of the manifest's shards: their indices are what the beacon draws. */
export interface PublishedCorpus {
  readonly manifest: Manifest;
  readonly training: readonly string[];
  readonly heldOut: readonly string[];
}

/** Thrown when bytes are no published corpus. */
export class InvalidPublicationError extends CorpusError {
  static readonly code = 'ERR_CORPUS_PUBLICATION_INVALID';
  readonly code = InvalidPublicationError.code;
  override readonly name = 'InvalidPublicationError';
}

/** Bytes to publish; the order of the fields is fixed. */
export function encodePublishedCorpus({ manifest, training, heldOut }: PublishedCorpus): Uint8Array {
  const text = { format: 'alice-corpus-publication/1', manifest, training, heldOut };
  return new TextEncoder().encode(JSON.stringify(text));
}

/** Reads what a peer sent. Throws {@link InvalidPublicationError}, or InvalidManifestError for the manifest in it. */
export function parsePublishedCorpus(bytes: Uint8Array): PublishedCorpus {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new InvalidPublicationError('published corpus: not JSON', { cause });
  }
  const result = v.safeParse(publicationSchema, value);
  if (!result.success) {
    const issue = result.issues[0];
    throw new InvalidPublicationError(`published corpus: ${v.getDotPath(issue) ?? 'top level'}: ${issue.message}`);
  }
  const { training, heldOut } = result.output;
  const manifest = parseManifest(encodeManifest(result.output.manifest as Manifest));
  if (training.length !== manifest.training.length || heldOut.length !== manifest.heldOut.length) {
    throw new InvalidPublicationError('published corpus: not one content id for each shard of the manifest');
  }
  return { manifest, training, heldOut };
}
