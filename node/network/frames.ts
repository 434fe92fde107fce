/**
 * Length-prefixed frames on a libp2p stream: `length: u32 big-endian | bytes`, one frame in each direction.
 *
 * Written for v3 streams, which are event targets: reading one with `for await` buffers without bound, `onDrain()`
 * reports back-pressure only once, and `lpStream` resets the stream without saying why. So the events are used directly.
 */
import type { Stream, StreamCloseEvent, StreamMessageEvent } from '@libp2p/interface';
import { MalformedMessageError, MessageTooLargeError, StreamClosedError } from './errors.ts';

/** Bytes of the length in front of a frame. */
export const FRAME_HEADER_BYTES = 4;

/** Bytes handed to the stream before waiting for it to drain: what is queued per stream stays about this small. */
const WRITE_SLICE_BYTES = 64 * 1024;

/**
 * Reads the one frame that the remote sends. `extraHeaderBytes` more bytes stand before the length and are returned
 * too. Throws {@link MessageTooLargeError} as soon as the announced length is over the limit, so nothing over the limit
 * is ever held; {@link MalformedMessageError} when bytes follow the frame; {@link StreamClosedError} when the stream
 * ends early; the signal's reason when that fires.
 */
export function readFrame(
  stream: Stream,
  options: { maxBytes: number; extraHeaderBytes?: number; signal: AbortSignal },
): Promise<{ header: Uint8Array; body: Uint8Array }> {
  const { maxBytes, extraHeaderBytes = 0, signal } = options;
  const headerBytes = extraHeaderBytes + FRAME_HEADER_BYTES;
  return new Promise((resolve, reject) => {
    const header = Buffer.alloc(headerBytes);
    let body: Buffer | undefined;
    let received = 0;

    const finish = () => {
      stream.removeEventListener('message', onMessage);
      stream.removeEventListener('close', onClose);
      stream.removeEventListener('remoteCloseWrite', onEnd);
      signal.removeEventListener('abort', onAbort);
    };
    const fail = (error: Error) => {
      finish();
      reject(error);
    };
    const take = (piece: Uint8Array) => {
      let rest = piece;
      if (received < headerBytes) {
        const part = rest.subarray(0, headerBytes - received);
        header.set(part, received);
        received += part.length;
        rest = rest.subarray(part.length);
        if (received < headerBytes) return;
        const length = header.readUInt32BE(extraHeaderBytes);
        if (length > maxBytes) {
          throw new MessageTooLargeError(`the peer announced ${length} bytes, at most ${maxBytes} allowed`);
        }
        body = Buffer.allocUnsafeSlow(length);
      }
      if (body === undefined || rest.length === 0) return;
      const offset = received - headerBytes;
      if (offset + rest.length > body.length) throw new MalformedMessageError('bytes follow the message');
      body.set(rest, offset);
      received += rest.length;
    };
    const onMessage = (event: StreamMessageEvent) => {
      try {
        if (event.data instanceof Uint8Array) take(event.data);
        else for (const piece of event.data) take(piece);
      } catch (error) {
        fail(error instanceof Error ? error : new MalformedMessageError(String(error)));
        return;
      }
      if (body !== undefined && received === headerBytes + body.length) {
        finish();
        resolve({ header: header.subarray(0, extraHeaderBytes), body });
      }
    };
    // What came before the end may still lie in the stream's buffer: libp2p delivers it after these events.
    const afterDelivery = (error: Error) => {
      if (stream.readBufferLength === 0) fail(error);
      else setImmediate(() => fail(error));
    };
    const onEnd = () => afterDelivery(new StreamClosedError('the peer ended the stream early'));
    const onClose = (event: StreamCloseEvent) => {
      afterDelivery(new StreamClosedError('the stream was closed', { cause: event.error }));
    };
    const onAbort = () => fail(signal.reason instanceof Error ? signal.reason : new StreamClosedError('aborted'));

    if (signal.aborted) {
      onAbort();
      return;
    }
    signal.addEventListener('abort', onAbort, { once: true });
    stream.addEventListener('close', onClose);
    stream.addEventListener('remoteCloseWrite', onEnd);
    stream.addEventListener('message', onMessage);
    if (stream.status !== 'open' || stream.remoteWriteStatus === 'closed') {
      afterDelivery(new StreamClosedError(`the stream is ${stream.status}`));
    }
  });
}

/**
 * Sends `prefix | length | body`, waiting whenever the stream is full; `onProgress` is called when a part has been taken.
 * Rejects when the stream or the signal ends.
 */
export async function writeFrame(
  stream: Stream,
  body: Uint8Array,
  options: { prefix?: Uint8Array; signal: AbortSignal; onProgress?: () => void },
): Promise<void> {
  const prefix = options.prefix ?? new Uint8Array(0);
  const header = Buffer.alloc(prefix.length + FRAME_HEADER_BYTES);
  header.set(prefix);
  header.writeUInt32BE(body.length, prefix.length);
  // A small body goes out with its header: one packet.
  if (body.length <= WRITE_SLICE_BYTES) {
    await write(stream, Buffer.concat([header, body]), options.signal);
    return;
  }
  await write(stream, header, options.signal);
  for (let offset = 0; offset < body.length; offset += WRITE_SLICE_BYTES) {
    await write(stream, body.subarray(offset, offset + WRITE_SLICE_BYTES), options.signal);
    options.onProgress?.();
  }
}

async function write(stream: Stream, bytes: Uint8Array, signal: AbortSignal): Promise<void> {
  if (stream.writeStatus !== 'writable') throw new StreamClosedError(`the stream is ${stream.status}`);
  try {
    stream.send(bytes);
  } catch (cause) {
    throw new StreamClosedError('the stream does not take data', { cause });
  }
  if (isFull(stream)) await drained(stream, signal);
}

function isFull(stream: Stream): boolean {
  return stream.writeBufferLength > 0 || stream.writableNeedsDrain;
}

function drained(stream: Stream, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const finish = () => {
      stream.removeEventListener('drain', onProgress);
      stream.removeEventListener('idle', onProgress);
      stream.removeEventListener('close', onClose);
      signal.removeEventListener('abort', onAbort);
    };
    const onProgress = () => {
      // The stream moves its buffer on in a microtask after `drain`; look after that.
      queueMicrotask(() => {
        if (isFull(stream) && stream.status === 'open') return;
        finish();
        resolve();
      });
    };
    const onClose = (event: StreamCloseEvent) => {
      finish();
      reject(new StreamClosedError('the stream was closed', { cause: event.error }));
    };
    const onAbort = () => {
      finish();
      reject(signal.reason instanceof Error ? signal.reason : new StreamClosedError('aborted'));
    };
    if (signal.aborted) {
      reject(signal.reason instanceof Error ? signal.reason : new StreamClosedError('aborted'));
      return;
    }
    stream.addEventListener('drain', onProgress);
    stream.addEventListener('idle', onProgress);
    stream.addEventListener('close', onClose);
    signal.addEventListener('abort', onAbort, { once: true });
  });
}
