/** A disk that keeps what was synced and tears the rest when its machine crashes. */
import type { AppendFile, Directory } from '../../node/consensus/storage.ts';
import type { Random } from './random.ts';
import type { World } from './world.ts';

interface StoredFile {
  /** What survives for certain. */
  durable: Buffer;
  /** What the running process sees. */
  content: Buffer;
}

/** Called before each operation that changes the disk; may crash the machine by throwing away the session. */
export type WriteHook = (operation: 'append' | 'sync' | 'truncate' | 'replace', file: string) => void;

/** See the head of this file. */
export class SimulatedDisk {
  readonly #world: World;
  readonly #random: Random;
  readonly #maxDelayMs: number;
  readonly #files = new Map<string, StoredFile>();
  /** Operations of earlier sessions never resolve. */
  #session = 0;
  tornTails = 0;
  onWrite: WriteHook | undefined;

  constructor(world: World, random: Random, maxDelayMs: number) {
    this.#world = world;
    this.#random = random;
    this.#maxDelayMs = maxDelayMs;
  }

  /** Content as it would be read now. */
  content(name: string): Buffer {
    return this.#files.get(name)?.content ?? Buffer.alloc(0);
  }

  /** What a crash could not take. */
  durable(name: string): Buffer {
    return this.#files.get(name)?.durable ?? Buffer.alloc(0);
  }

  /** Puts content in place of a file, durably. */
  overwrite(name: string, content: Buffer): void {
    this.#files.set(name, { durable: content, content });
  }

  /** Forgets everything: a validator that lost its disk. */
  wipe(): void {
    this.#files.clear();
  }

  /** Ends the present session: of what was not synced an arbitrary part remains, perhaps garbled. */
  crash(): void {
    this.#session += 1;
    for (const file of this.#files.values()) {
      if (file.content.equals(file.durable)) continue;
      this.tornTails += 1;
      const grows = file.content.subarray(0, file.durable.length).equals(file.durable);
      if (grows) {
        const kept = file.durable.length + this.#random.below(file.content.length - file.durable.length + 1);
        const torn = Buffer.from(file.content.subarray(0, kept));
        if (kept > file.durable.length && this.#random.chance(0.3)) torn[kept - 1] ^= 1 + this.#random.below(255);
        file.content = torn;
      } else {
        file.content = this.#random.chance(0.5)
          ? file.durable
          : Buffer.from(file.content.subarray(0, this.#random.below(file.content.length + 1)));
      }
      file.durable = file.content;
    }
  }

  /** The disk as a process sees it until the next crash. */
  open(): Directory {
    const session = this.#session;
    return {
      open: async (name) => {
        await this.#step(session);
        const known = this.#files.get(name) ?? { durable: Buffer.alloc(0), content: Buffer.alloc(0) };
        this.#files.set(name, known);
        return this.#handle(session, name, known);
      },
      replace: async (name, content) => {
        this.onWrite?.('replace', name);
        await this.#step(session);
        const file = { durable: Buffer.from(content), content: Buffer.from(content) };
        this.#files.set(name, file);
        return this.#handle(session, name, file);
      },
    };
  }

  async #step(session: number): Promise<void> {
    if (this.#maxDelayMs > 0 && session === this.#session)
      await this.#world.sleep(this.#random.next() * this.#maxDelayMs);
    if (session !== this.#session) await new Promise<never>(() => {});
  }

  #handle(session: number, name: string, file: StoredFile): AppendFile {
    const changing = async (operation: 'append' | 'sync' | 'truncate') => {
      if (session === this.#session) this.onWrite?.(operation, name);
      await this.#step(session);
    };
    return {
      read: async () => {
        await this.#step(session);
        return file.content;
      },
      append: async (bytes) => {
        // Visible at once, so that a crash during the operation finds a part of it.
        if (session === this.#session) file.content = Buffer.concat([file.content, bytes]);
        await changing('append');
      },
      sync: async () => {
        await changing('sync');
        file.durable = file.content;
      },
      truncate: async (length) => {
        if (session === this.#session) file.content = Buffer.from(file.content.subarray(0, length));
        await changing('truncate');
      },
      close: async () => {},
    };
  }
}
