/**
 * Cutting a stream of bytes into the chunks of a blob.
 */
import { CHUNK_BYTES } from './manifest.ts';

/** Cuts a source into chunks of {@link CHUNK_BYTES}. */
export async function* chunked(
  source: Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  let waiting: Uint8Array[] = [];
  let waitingBytes = 0;
  for await (const piece of source instanceof Uint8Array ? [source] : source) {
    let rest = piece;
    while (waitingBytes + rest.length >= CHUNK_BYTES) {
      const take = rest.subarray(0, CHUNK_BYTES - waitingBytes);
      yield waiting.length === 0 ? take : Buffer.concat([...waiting, take]);
      rest = rest.subarray(take.length);
      waiting = [];
      waitingBytes = 0;
    }
    if (rest.length > 0) {
      // A copy: the source may reuse its buffer before the chunk is full.
      waiting.push(rest.slice());
      waitingBytes += rest.length;
    }
  }
  if (waitingBytes > 0) yield Buffer.concat(waiting);
}
