/**
 * What a node holds of gossip that it has not taken yet. gossipsub reads a stream into a list without an end, also while
 * nobody takes from it, keeps a replaced stream of a peer as well as the new one, and waits for ever for the end of an RPC.
 * Here
 * - a peer has one stream: a second takes the place of the first, which is reset;
 * - while a whole RPC waits, its stream gets no new window: what comes meanwhile is no more than the window it had;
 * - an RPC that has begun has to end within {@link FRAME_MS};
 * - all of it is counted, as it lies in memory, and bounded over all peers: where there is more, the stream ends that has
 *   held a larger part for the longest time, a known peer's only where known peers hold too much.
 */
import type { PeerId, Stream } from '@libp2p/interface';
import { Uint8ArrayList } from 'uint8arraylist';
import { MessageTooLargeError, StreamClosedError } from './errors.ts';
import type { GossipsubStreams } from './gossipsub-internals.ts';
import type { PeerIdText } from './interface.ts';

const MIB = 1024 * 1024;

/** Bytes held of all strangers, and of all known peers: at least four of the largest RPCs with a window behind them each. */
export const GOSSIP_BYTES = { strangers: 16 * MIB, known: 16 * MIB } as const;

/** Time for the rest of an RPC that has begun, while we read: a full one at 80 KiB/s. */
export const FRAME_MS = 30_000;

/** Who holds less than this is not what fills the memory. */
const SMALL_BYTES = 64 * 1024;

/** First size of a buffer, which doubles. */
const FIRST_BUFFER_BYTES = 1024;

/** Longest length prefix that is read: 28 bits. */
const MAX_PREFIX_BYTES = 4;

/** Window that a gossip stream keeps: what a peer may send while we do not read. */
const WINDOW_BYTES = MIB;

/** The part of a yamux stream that its type does not show. */
interface YamuxStream extends Stream {
  maxStreamWindowSize: number;
  onData(data: Uint8Array | Uint8ArrayList): void;
}

function yamuxStream(stream: Stream): YamuxStream {
  // Not to be found out in the field: it would leave memory without a bound.
  if (!('onData' in stream && 'maxStreamWindowSize' in stream)) throw new Error('yamux streams are not what they were');
  return stream as YamuxStream;
}

/** One peer's gossip stream, read frame by frame. */
class GossipReader {
  readonly #stream: YamuxStream;
  readonly #maxFrameBytes: number;
  readonly #changed: () => void;
  /** What has come: of `#buffer` the bytes from `#start` to `#end`. */
  #buffer: Buffer | undefined;
  #start = 0;
  #end = 0;
  /** Bytes of the frame that is being looked at. */
  #given = 0;
  #ended: { readonly error: Error | undefined } | undefined;
  #wake: (() => void) | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** When it began to hold something, or last brought a whole frame; milliseconds. */
  heldSince = 0;

  constructor(stream: Stream, maxFrameBytes: number, changed: () => void) {
    this.#stream = yamuxStream(stream);
    this.#maxFrameBytes = maxFrameBytes;
    this.#changed = changed;
    this.#stream.maxStreamWindowSize = WINDOW_BYTES;
    const onData = this.#stream.onData.bind(this.#stream);
    // Not through the stream's own buffer: it keeps each piece, and with it all of the packet that it came in.
    this.#stream.onData = (data) => {
      if (stream.readBufferLength > 0) onData(data);
      else this.#append(data);
    };
    stream.addEventListener('message', ({ data }) => this.#append(data));
    stream.addEventListener('remoteCloseWrite', () => this.#finish(undefined));
    stream.addEventListener('close', ({ error }) => this.#finish(error));
  }

  /** Bytes of memory that it holds. */
  get heldBytes(): number {
    return (this.#buffer?.length ?? 0) + this.#given;
  }

  /** Ends the stream. With an error what is read from it ends with that. */
  end(error?: Error): void {
    this.#ended ??= { error };
    this.#free();
    this.#stream.abort(error ?? new StreamClosedError('another gossip stream took its place'));
    this.#wake?.();
  }

  /** For gossipsub, which closes a stream when the peer leaves. */
  async close(): Promise<void> {
    this.end();
  }

  /** The frames, one at a time: the next is looked for when the last is done with. */
  async *frames(): AsyncGenerator<Uint8ArrayList> {
    try {
      for (;;) {
        const frame = this.#next();
        if (frame !== undefined) {
          this.#pause();
          this.#given = frame.length;
          this.#changed();
          yield new Uint8ArrayList(frame);
          this.#given = 0;
          this.#changed();
          continue;
        }
        if (this.#ended?.error !== undefined) throw this.#ended.error;
        if (this.#ended !== undefined) return;
        await this.#more();
      }
    } catch (cause) {
      const error = cause instanceof Error ? cause : new StreamClosedError(String(cause));
      this.end(error);
      throw error;
    } finally {
      this.#ended ??= { error: undefined };
      this.#free();
    }
  }

  /** Waits for what comes next, which has its time from its first byte on. */
  async #more(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    this.#resume();
    this.#limitTime();
    await promise;
    this.#wake = undefined;
  }

  #limitTime(): void {
    if (this.#buffer === undefined || this.#ended !== undefined) return;
    this.#timer ??= setTimeout(
      () => this.end(new StreamClosedError(`an RPC that did not end within ${FRAME_MS} ms`)),
      FRAME_MS,
    ).unref();
  }

  #stopTimer(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** Takes the next whole frame out of the buffer; undefined when there is none. Throws {@link MessageTooLargeError}. */
  #next(): Buffer | undefined {
    const prefix = this.#prefix();
    if (prefix === undefined || this.#buffer === undefined) return undefined;
    const from = this.#start + prefix.bytes;
    if (from + prefix.length > this.#end) return undefined;
    this.#stopTimer();
    this.heldSince = performance.now();
    const frame = Buffer.allocUnsafeSlow(prefix.length);
    this.#buffer.copy(frame, 0, from, from + prefix.length);
    this.#start = from + prefix.length;
    if (this.#start === this.#end) this.#free();
    return frame;
  }

  #prefix(): { readonly length: number; readonly bytes: number } | undefined {
    let length = 0;
    for (let index = 0; index < MAX_PREFIX_BYTES; index++) {
      if (this.#start + index >= this.#end) return undefined;
      const byte = this.#buffer?.[this.#start + index] ?? 0;
      length += (byte & 0x7f) * 128 ** index;
      if (byte >= 0x80) continue;
      if (length > this.#maxFrameBytes) break;
      return { length, bytes: index + 1 };
    }
    throw new MessageTooLargeError(`a gossip RPC over ${this.#maxFrameBytes} bytes`);
  }

  #append(data: Uint8Array | Uint8ArrayList): void {
    if (this.#ended !== undefined) return;
    const buffer = this.#room(data.byteLength);
    for (const piece of data instanceof Uint8Array ? [data] : data) {
      buffer.set(piece, this.#end);
      this.#end += piece.length;
    }
    // Only while it is waited for: otherwise it is we who let it wait.
    if (this.#wake !== undefined) this.#limitTime();
    this.#wakeForFrame();
    this.#changed();
  }

  /** Looks whether there is something for the reader; one prefix is read for each piece that comes. */
  #wakeForFrame(): void {
    if (this.#wake === undefined) return;
    try {
      const prefix = this.#prefix();
      if (prefix === undefined || this.#start + prefix.bytes + prefix.length > this.#end) return;
    } catch {
      // The reader finds the same.
    }
    this.#pause();
    this.#wake();
  }

  #room(bytes: number): Buffer {
    const used = this.#end - this.#start;
    const old = this.#buffer;
    if (old === undefined) this.heldSince = performance.now();
    if (old !== undefined && this.#end + bytes <= old.length) return old;
    let size = old?.length ?? FIRST_BUFFER_BYTES;
    while (size < used + bytes) size *= 2;
    const buffer = size === old?.length ? old : Buffer.allocUnsafeSlow(size);
    old?.copy(buffer, 0, this.#start, this.#end);
    this.#buffer = buffer;
    this.#start = 0;
    this.#end = used;
    return buffer;
  }

  #free(): void {
    this.#stopTimer();
    this.#buffer = undefined;
    this.#start = 0;
    this.#end = 0;
    this.#changed();
  }

  #finish(error: Error | undefined): void {
    this.#ended ??= { error };
    this.#wake?.();
  }

  #pause(): void {
    if (this.#stream.readStatus === 'readable' && this.#stream.status === 'open') this.#stream.pause();
  }

  #resume(): void {
    if (this.#stream.readStatus === 'paused' && this.#stream.status === 'open') this.#stream.resume();
  }
}

/** What a {@link GossipStreams} works with. */
export interface GossipStreamsComponents {
  readonly pubsub: GossipsubStreams;
  /** Largest RPC. */
  readonly maxFrameBytes: number;
  /** More than a stranger. */
  isKnown(peer: PeerIdText): boolean;
}

/** See the file comment. Made before gossipsub starts, and after what wraps its `pipePeerReadStream`. */
export class GossipStreams {
  readonly #components: GossipStreamsComponents;
  /** One for each connected peer at most. */
  readonly #readers = new Map<PeerIdText, GossipReader>();
  /** Most bytes that were held at a time. */
  mostBytes = 0;

  constructor(components: GossipStreamsComponents) {
    this.#components = components;
    components.pubsub.createInboundStream = (peer, stream) => this.#open(peer, stream);
  }

  /** Bytes held now. */
  get bytes(): number {
    return this.#held(true) + this.#held(false);
  }

  #open(peerId: PeerId, stream: Stream): void {
    const { pubsub, maxFrameBytes } = this.#components;
    const peer = peerId.toString() as PeerIdText;
    if (!pubsub.isStarted() || !pubsub.peers.has(peer)) {
      stream.abort(new StreamClosedError('not in gossip'));
      return;
    }
    this.#readers.get(peer)?.end();
    const reader: GossipReader = new GossipReader(stream, maxFrameBytes, () => this.#bound(peer));
    this.#readers.set(peer, reader);
    pubsub.streamsInbound.set(peer, reader);
    void pubsub.pipePeerReadStream(peerId, reader.frames()).finally(() => {
      if (this.#readers.get(peer) === reader) this.#readers.delete(peer);
    });
  }

  #held(known: boolean): number {
    let bytes = 0;
    for (const [peer, reader] of this.#readers) {
      if (this.#components.isKnown(peer) === known) bytes += reader.heldBytes;
    }
    return bytes;
  }

  /** Called when what a peer's stream holds has changed. */
  #bound(peer: PeerIdText): void {
    const known = this.#components.isKnown(peer);
    const limit = known ? GOSSIP_BYTES.known : GOSSIP_BYTES.strangers;
    let held = this.#held(known);
    while (held > limit) {
      const victim = this.#victim(known);
      if (victim === undefined) break;
      held -= victim.heldBytes;
      victim.end(new StreamClosedError('its RPC takes too long, and memory is short'));
    }
    this.mostBytes = Math.max(this.mostBytes, held);
  }

  #victim(known: boolean): GossipReader | undefined {
    let oldest: GossipReader | undefined;
    for (const [peer, reader] of this.#readers) {
      if (reader.heldBytes < SMALL_BYTES || this.#components.isKnown(peer) !== known) continue;
      if (oldest === undefined || reader.heldSince < oldest.heldSince) oldest = reader;
    }
    return oldest;
  }
}
