/**
 * Zstandard decompression of a byte stream.
 */
import { createZstdDecompress } from 'node:zlib';
import { InvalidCompressionError } from '../errors.ts';

/**
 * Decompresses a stream of one or more Zstandard frames. Node 24 stops without an error after the first frame when more
 * follow in the same write (nodejs/node issue 64741), and pzstd, `cat` and many dumps make such files: what a frame left
 * over goes into a new decompressor. Throws {@link InvalidCompressionError}; errors of `chunks` pass through.
 * Memory: one chunk and the window of the frame (libzstd refuses more than 128 MiB).
 */
export async function* decompressZstd(chunks: AsyncIterable<Uint8Array>, file: string): AsyncGenerator<Uint8Array> {
  const source = chunks[Symbol.asyncIterator]();
  try {
    let taken = await source.next();
    while (taken.done !== true) {
      let chunk = taken.value;
      let ended = false;
      /** Bytes given to this decompressor before `chunk`. */
      let given = 0;
      let sourceFailure: { readonly error: unknown } | undefined;
      const decompressor = createZstdDecompress();
      const feed = async () => {
        for (;;) {
          await new Promise<void>((resolve, reject) => {
            decompressor.write(chunk, (error) => (error == null ? resolve() : reject(error)));
          });
          // The frame ended inside the chunk: the output ends now, and the rest of the chunk was not looked at.
          if (decompressor.bytesWritten < given + chunk.length) return;
          given += chunk.length;
          const following = await source.next().catch((error: unknown) => {
            sourceFailure = { error };
            throw error;
          });
          if (following.done === true) {
            ended = true;
            decompressor.end();
            return;
          }
          chunk = following.value;
        }
      };
      // Errors of the decompressor come out of its output too; only those of the source must be passed on to it.
      feed().catch((error: unknown) => decompressor.destroy(error instanceof Error ? error : new Error(String(error))));
      try {
        for await (const data of decompressor) yield data as Uint8Array;
      } catch (cause) {
        if (sourceFailure !== undefined) throw sourceFailure.error;
        throw damaged(file, (cause as Error).message, cause);
      }
      if (ended) return;
      const used = decompressor.bytesWritten - given;
      if (used <= 0) throw damaged(file, 'no progress');
      taken = { done: false, value: chunk.subarray(used) };
    }
  } finally {
    // Lets go of the file also when the reader stops early.
    await source.return?.();
  }
}

function damaged(file: string, reason: string, cause?: unknown): InvalidCompressionError {
  return new InvalidCompressionError(`${file}: damaged or not Zstandard (${reason}); fetch the file again`, { cause });
}
