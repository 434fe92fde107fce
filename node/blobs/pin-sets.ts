/**
 * Named sets of blobs that must stay: `checkpoint` pins the current weights, `shards` a miner's data, and so on.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { writeDurably } from '../durable-file.ts';

const FILE = 'pins.json';
const schema = v.record(v.string(), v.array(v.string()));

/** Pins, written to `pins.json` at each change. A blob stays while any set names it, whether it is in the store or not. */
export class PinSets {
  readonly #dir: string;
  readonly #sets: Map<string, Set<string>>;
  #writing: Promise<void> = Promise.resolve();

  private constructor(dir: string, sets: Map<string, Set<string>>) {
    this.#dir = dir;
    this.#sets = sets;
  }

  /** Reads the pins of a store. A damaged file counts as none: pins only ever protect a cache. */
  static async load(dir: string): Promise<PinSets> {
    const sets = new Map<string, Set<string>>();
    try {
      const parsed = v.parse(schema, JSON.parse(await readFile(join(dir, FILE), 'utf8')));
      for (const [name, cids] of Object.entries(parsed)) sets.set(name, new Set(cids));
    } catch {
      // Absent on the first start.
    }
    return new PinSets(dir, sets);
  }

  has(cid: string): boolean {
    for (const cids of this.#sets.values()) if (cids.has(cid)) return true;
    return false;
  }

  /** CIDs of a set. */
  list(set: string): string[] {
    return [...(this.#sets.get(set) ?? [])];
  }

  /** Replaces a whole set; an empty one goes away. Resolves when durable. */
  replace(set: string, cids: Iterable<string>): Promise<void> {
    const next = new Set(cids);
    if (next.size === 0) this.#sets.delete(set);
    else this.#sets.set(set, next);
    return this.#save();
  }

  #save(): Promise<void> {
    // One write at a time; each writes what holds when its turn comes.
    const next = this.#writing.then(async () => {
      const content = Object.fromEntries([...this.#sets].map(([name, cids]) => [name, [...cids]]));
      const path = join(this.#dir, FILE);
      await writeDurably(path, Buffer.from(JSON.stringify(content)), { temporary: `${path}.tmp` });
    });
    this.#writing = next.catch(() => {});
    return next;
  }
}
