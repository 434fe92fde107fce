/** What engines read of weights on disk beside a layer at a time. */
import { type TensorStore, tensorParts } from '../checkpoint/tensor-store.ts';
import { NonFiniteError } from './engine.ts';
import { SquareSums } from './square-sums.ts';

type Floats = Float32Array<ArrayBuffer>;

/** Embedding rows asked of the store at a time. */
const ROWS_IN_FLIGHT = 64;

/**
 * Fills `x`, `[rows, hidden]`, with the embedding of each of the `inputs` of each pass; reads each row that is in use
 * once. Throws what the store throws.
 */
export async function readEmbeddings(
  store: TensorStore,
  hidden: number,
  passes: readonly { readonly inputs: Int32Array; readonly x: Floats }[],
): Promise<void> {
  const slot = store.slot('embedding');
  const places = new Map<number, Floats[]>();
  for (const { inputs, x } of passes)
    for (const [row, token] of inputs.entries()) {
      const place = x.subarray(row * hidden, (row + 1) * hidden);
      const others = places.get(token);
      if (others === undefined) places.set(token, [place]);
      else others.push(place);
    }
  const wanted = [...places].sort(([a], [b]) => a - b);
  for (let at = 0; at < wanted.length; at += ROWS_IN_FLIGHT) {
    // All of them to the end, also when one fails: nothing may write into the memory later.
    const reads = await Promise.allSettled(
      wanted.slice(at, at + ROWS_IN_FLIGHT).map(async ([token, [first, ...others]]) => {
        if (first === undefined) return;
        await store.read({ slot, start: token * hidden, length: hidden }, first);
        for (const other of others) other.set(first);
      }),
    );
    for (const read of reads) if (read.status === 'rejected') throw read.reason;
  }
}

/**
 * The error for losses that are not finite: names the weight that spoils them, or the losses when all weights are finite.
 * Reads all weights, through `memory`. Throws what the store throws.
 */
export async function storedNonFiniteLoss(store: TensorStore, memory: Floats): Promise<NonFiniteError> {
  const sums = new SquareSums();
  try {
    for (const slot of store.layout)
      for (const part of tensorParts(slot, memory.length)) {
        const values = memory.subarray(0, part.length);
        await store.read(part, values);
        sums.add(slot, values);
      }
  } catch (error) {
    if (error instanceof NonFiniteError) return error;
    throw error;
  }
  return new NonFiniteError('losses');
}
