/** Layouts and headers for tests of submissions. */
import type { UpdateHeader } from '../../kernels/gradient/agf1.ts';
import type { TensorSlot } from '../../kernels/gradient/layout.ts';

/** Lays tensors of the given shapes out back to back. */
export function layoutOf(shapes: readonly (readonly number[])[]): TensorSlot[] {
  let offset = 0;
  return shapes.map((shape, i) => {
    const length = shape.reduce((size, dimension) => size * dimension, 1);
    const slot = { name: `t${i}`, shape, offset, length };
    offset += length;
    return slot;
  });
}

export const HEADER: UpdateHeader = {
  round: 7,
  author: 'a1'.repeat(32),
  modelRoot: 'b2'.repeat(32),
  presetHash: 'c3'.repeat(32),
};

/** No bound but the layout's own size. */
export function openLimits(layout: readonly TensorSlot[]): { maxBytes: number; maxEntries: number } {
  const elements = layout.reduce((sum, slot) => sum + slot.length, 0);
  return { maxBytes: 1024 + 64 * layout.length + 16 * elements, maxEntries: elements };
}
