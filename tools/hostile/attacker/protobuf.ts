/** Just enough of protobuf's wire format to write messages by hand, well-formed or not. */

/** An unsigned integer as a varint. */
export function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  let left = value;
  while (left >= 128) {
    bytes.push((left % 128) | 128);
    left = Math.floor(left / 128);
  }
  return Uint8Array.of(...bytes, left);
}

/** A field with a number. */
export function numberField(field: number, value: number): Uint8Array {
  return Buffer.concat([varint(field * 8), varint(value)]);
}

/** A field with bytes, a text or a message. */
export function bytesField(field: number, value: Uint8Array | string): Uint8Array {
  const bytes = typeof value === 'string' ? Buffer.from(value) : value;
  return Buffer.concat([varint(field * 8 + 2), varint(bytes.length), bytes]);
}

/** Bytes with their length in front, as libp2p's own protocols frame messages. */
export function delimited(message: Uint8Array): Uint8Array {
  return Buffer.concat([varint(message.length), message]);
}

/** Most bytes of one message that an attacker reads; more ends the reading. */
const MAX_READ_BYTES = 8 * 1024 * 1024;

/** Cuts a stream of bytes into delimited messages. */
export class DelimitedReader {
  #rest: Buffer = Buffer.alloc(0);

  /** The messages that these bytes complete. */
  take(bytes: Uint8Array): Uint8Array[] {
    this.#rest = Buffer.concat([this.#rest, bytes]);
    const messages: Uint8Array[] = [];
    for (;;) {
      let [length, scale, at] = [0, 1, 0];
      for (; at < this.#rest.length; at++) {
        const byte = this.#rest[at] ?? 0;
        length += (byte & 127) * scale;
        scale *= 128;
        if (byte < 128) break;
      }
      if (at >= this.#rest.length || length > MAX_READ_BYTES || this.#rest.length < at + 1 + length) return messages;
      messages.push(this.#rest.subarray(at + 1, at + 1 + length));
      this.#rest = this.#rest.subarray(at + 1 + length);
    }
  }
}
