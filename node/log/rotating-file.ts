/** A file that lines are added to, and that cannot fill the disk. */

import { closeSync, fstatSync, mkdirSync, openSync, renameSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';

/** Only its owner reads a log: it names peers, addresses and accounts. */
const FILE_MODE = 0o600;

/**
 * Appends to a file; when it would grow past the limit, renames it to `NAME.1`, over an older one, and begins anew.
 * Takes up to twice the limit on disk. Writes are synchronous and survive a crash of the process (not of the machine).
 */
export class RotatingFile {
  readonly #path: string;
  readonly #limitBytes: number;
  #descriptor: number | undefined;
  #sizeBytes: number;

  /** Opens the file, making it and its folder if they are missing. Throws the error of the operating system. */
  constructor(path: string, limitBytes: number) {
    mkdirSync(dirname(path), { recursive: true });
    this.#path = path;
    this.#limitBytes = limitBytes;
    this.#descriptor = openSync(path, 'a', FILE_MODE);
    this.#sizeBytes = fstatSync(this.#descriptor).size;
  }

  /**
   * Adds a line, which carries its own line feed, or what a process wrote. A disk that is full or gone loses it, and stops
   * nothing else.
   */
  write(line: string | Uint8Array): void {
    if (this.#descriptor === undefined) return;
    try {
      const bytes = Buffer.byteLength(line);
      if (this.#sizeBytes > 0 && this.#sizeBytes + bytes > this.#limitBytes) this.#rotate();
      this.#sizeBytes += bytes;
      if (this.#descriptor === undefined) return;
      if (typeof line === 'string') writeSync(this.#descriptor, line);
      else writeSync(this.#descriptor, line);
    } catch {
      // There is nowhere left to say it.
    }
  }

  #rotate(): void {
    this.close();
    renameSync(this.#path, `${this.#path}.1`);
    this.#descriptor = openSync(this.#path, 'a', FILE_MODE);
    this.#sizeBytes = 0;
  }

  /** Closes the file; later lines are dropped. */
  close(): void {
    if (this.#descriptor === undefined) return;
    closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }
}
