/**
 * The whole state of the ledger as one file: JSON lines, the first saying whose state it is, the others one entry each,
 * in the order of the tree's paths. Readable with any tool, and checked by its root, which the block's header carries.
 */

import { once } from 'node:events';
import { createReadStream, createWriteStream } from 'node:fs';
import { rename } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import * as v from 'valibot';
import type { Hash } from '../chain/hash.ts';
import type { LedgerState } from '../ledger/state.ts';

const FORMAT = 'alice-state/1';

const hash = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/));
const headSchema = v.strictObject({
  format: v.literal(FORMAT),
  genesisHash: hash,
  height: v.pipe(v.number(), v.integer(), v.minValue(0)),
  blockId: hash,
  stateRoot: hash,
  entries: v.pipe(v.number(), v.integer(), v.minValue(1)),
});
const entrySchema = v.strictTuple([v.string(), v.pipe(v.string(), v.regex(/^([0-9a-f]{2})*$/))]);

/** The first line of a state file: whose state it is. */
export interface StateFileHead {
  readonly genesisHash: Hash;
  readonly height: number;
  readonly blockId: Hash;
  readonly stateRoot: Hash;
  readonly entries: number;
}

/** Thrown when a file is no state file, or not a whole one. */
export class StateFileError extends Error {
  static readonly code = 'ERR_STATE_FILE';
  readonly code = StateFileError.code;
  override readonly name = 'StateFileError';
}

/** Writes a state; the file appears when it is whole and on disk. Returns its first line. */
export async function writeStateFile(
  path: string,
  state: LedgerState,
  of: { readonly genesisHash: Hash; readonly blockId: Hash },
): Promise<StateFileHead> {
  const temporary = `${path}.new`;
  const stream = createWriteStream(temporary, { flush: true });
  const write = async (line: unknown) => {
    if (!stream.write(`${JSON.stringify(line)}\n`)) await once(stream, 'drain');
  };
  let entries = 0;
  for (const _ of state.tree.entries()) entries += 1;
  const head = { ...of, height: state.height, stateRoot: state.root, entries };
  await write({ format: FORMAT, ...head });
  for (const [key, value] of state.tree.entries()) await write([key, Buffer.from(value).toString('hex')]);
  stream.end();
  await once(stream, 'close');
  await rename(temporary, path);
  return head;
}

/** Reads a state file. Its root is not checked here. Throws {@link StateFileError}. */
export async function readStateFile(
  path: string,
): Promise<{ head: StateFileHead; entries: (readonly [string, Uint8Array])[] }> {
  let head: StateFileHead | undefined;
  const entries: (readonly [string, Uint8Array])[] = [];
  try {
    for await (const line of createInterface({ input: createReadStream(path), crlfDelay: Number.POSITIVE_INFINITY })) {
      const value: unknown = JSON.parse(line);
      if (head === undefined) {
        const { format: _, ...rest } = v.parse(headSchema, value);
        head = rest as StateFileHead;
      } else {
        const [key, bytes] = v.parse(entrySchema, value);
        entries.push([key, new Uint8Array(Buffer.from(bytes, 'hex'))]);
      }
    }
  } catch (cause) {
    throw new StateFileError(`${path} is no state file (${(cause as Error).message})`, { cause });
  }
  if (head === undefined || entries.length !== head.entries)
    throw new StateFileError(
      `${path} is not whole: ${entries.length} of ${head?.entries ?? 'an unknown number of'} entries`,
    );
  return { head, entries };
}
