import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { assembleUpdate, decodeUpdate, UPDATE_HEADER_BYTES } from '../../kernels/gradient/agf1.ts';
import { chunkGeometry } from '../../kernels/gradient/chunks.ts';
import * as errors from '../../kernels/gradient/errors.ts';
import type { ValueBits } from '../../kernels/gradient/quantize.ts';
import { encodeRecord } from '../../kernels/gradient/record.ts';
import { HEADER, layoutOf, openLimits } from './layouts.ts';

const layout = layoutOf([[64, 128], [6], [10000]]);
const limits = openLimits(layout);

interface Elements {
  readonly counts: number[];
  readonly positions: number[];
  readonly values: number[];
  readonly topK?: number;
}

/** The record of these elements, in chunk order. */
function record(tensor: number, valueBits: ValueBits, elements: Elements): Uint8Array {
  const geometry = chunkGeometry(layout[tensor].shape, 'tiles');
  const options = { tensor, topK: elements.topK ?? 2, valueBits, geometry, chunking: 'tiles' as const };
  const { counts, positions, values } = elements;
  return encodeRecord(options, Uint32Array.from(counts), Uint32Array.from(positions), Float32Array.from(values)).record;
}

const FULL = { counts: [2, 2], positions: [1, 70, 0, 4095], values: [0.5, -0.25, 0.75, -0.25] };
const LISTED = { counts: [2, 0, 1], positions: [0, 9, 100], values: [1, -2, 1.5] };

const tiles2 = record(0, 2, FULL);
const vector32 = record(1, 32, { counts: [2], positions: [1, 4], values: [1, -0.125] });
const listed8 = record(2, 8, LISTED);
const listed2 = record(2, 2, LISTED);
const good = assembleUpdate(HEADER, [tiles2, vector32, listed8]);

/** Offsets within an update whose first record is the one under test. */
const RECORD = UPDATE_HEADER_BYTES;
const STREAMS = RECORD + 16;

/** An update of these records with the bytes at the given offsets replaced. */
function changed(records: Uint8Array[], changes: Record<number, number>): Uint8Array {
  const bytes = assembleUpdate(HEADER, records);
  for (const [at, value] of Object.entries(changes)) bytes[Number(at)] = value;
  return bytes;
}

/** Records as they are, in the order given, which assembleUpdate would put right. */
function unordered(records: Uint8Array[]): Uint8Array {
  const bytes = Buffer.concat([assembleUpdate(HEADER, []), ...records]);
  bytes.writeUInt32LE(records.length, 12);
  return bytes;
}

/** Codes that a test below expects. */
const tested = new Set<string>();

function refused(name: string, error: { readonly code: string }, bytes: Uint8Array, options: object = {}): void {
  tested.add(error.code);
  test(`${error.code}: ${name}`, () => {
    assert.throws(
      () => decodeUpdate(bytes, { layout, limits, ...options }),
      (thrown: unknown) => {
        assert.ok(thrown instanceof errors.MalformedUpdateError, `${thrown}`);
        assert.is((thrown as errors.MalformedUpdateError).code, error.code);
        return true;
      },
    );
  });
}

test('the inputs that are changed below are sound', () => {
  for (const records of [[tiles2], [vector32], [listed8], [listed2]]) {
    decodeUpdate(assembleUpdate(HEADER, records), { layout, limits });
  }
  assert.is(decodeUpdate(good, { layout, limits, expected: HEADER }).tensors.length, 3);
});

test('every truncation is refused', () => {
  for (let length = 0; length < good.length; length++) {
    assert.throws(
      () => decodeUpdate(good.subarray(0, length), { layout, limits }),
      (thrown: unknown) => thrown instanceof errors.TruncatedUpdateError,
    );
  }
});

refused('over the limit', errors.UpdateTooLargeError, good, { limits: { ...limits, maxBytes: good.length - 1 } });
refused('a byte too many', errors.TrailingBytesError, Buffer.concat([good, Buffer.alloc(1)]));
refused('magic', errors.BadMagicError, changed([tiles2], { 3: 0x32 }));
refused('version', errors.UnsupportedVersionError, changed([tiles2], { 4: 2 }));
refused('reserved field', errors.ReservedBitsError, changed([tiles2], { 7: 1 }));
refused('round', errors.HeaderMismatchError, good, { expected: { round: 8 } });
refused('author', errors.HeaderMismatchError, good, { expected: { author: '00'.repeat(32) } });
refused('model root', errors.HeaderMismatchError, good, { expected: { modelRoot: '00'.repeat(32) } });
refused('preset', errors.HeaderMismatchError, good, { expected: { presetHash: '00'.repeat(32) } });
refused('tensor outside the layout', errors.UnknownTensorError, changed([tiles2], { [RECORD]: 3 }));
refused('more records than tensors', errors.UnknownTensorError, changed([tiles2], { 12: 4 }));
refused('more records than there are', errors.TruncatedUpdateError, changed([tiles2], { 12: 2 }));
refused('descending tensors', errors.TensorOrderError, unordered([vector32, tiles2]));
refused('a tensor twice', errors.TensorOrderError, unordered([vector32, vector32]));
refused('3-bit values', errors.UnknownValueTypeError, changed([tiles2], { [RECORD + 4]: 3 }));
refused('a value type that the network does not use', errors.UnknownValueTypeError, good, {
  limits: { ...limits, valueBits: [8, 32] },
});
refused('chunking', errors.UnknownModeError, changed([tiles2], { [RECORD + 5]: 2 }));
refused('count mode', errors.UnknownModeError, changed([tiles2], { [RECORD + 6]: 2 }));
refused('Rice parameter', errors.RiceParameterError, changed([tiles2], { [RECORD + 7]: 25 }));
refused('k of zero', errors.InvalidTopKError, changed([tiles2], { [RECORD + 8]: 0 }));
refused('k above the largest chunk', errors.InvalidTopKError, changed([vector32], { [RECORD + 8]: 7 }));
refused('a count above k', errors.InvalidCountError, changed([listed8], { [STREAMS]: 0x13 }));
refused(
  'a count above what its chunk has',
  errors.InvalidCountError,
  // k = 2000 takes 11 bits a count; the last chunk of tensor 2 has 1808 elements.
  (() => {
    const bytes = assembleUpdate(HEADER, [record(2, 2, { ...LISTED, topK: 2000 })]);
    const counts = (2n | (0n << 11n) | (1809n << 22n)).toString(16).padStart(10, '0');
    bytes.set(Buffer.from(counts, 'hex').reverse(), STREAMS);
    return bytes;
  })(),
);
refused('all counts zero', errors.InvalidCountError, changed([listed8], { [STREAMS]: 0 }));
refused('listed counts that are all full', errors.InvalidCountError, changed([listed8], { [STREAMS]: 0b101010 }));
refused('padding of counts', errors.NonZeroPaddingError, changed([listed8], { [STREAMS]: 0x52 }));
refused('more elements than allowed', errors.TooManyEntriesError, good, { limits: { ...limits, maxEntries: 8 } });
refused('more elements than allowed in one record', errors.TooManyEntriesError, good, {
  limits: { ...limits, maxEntries: 3 },
});
refused('more records than elements', errors.TooManyEntriesError, good, { limits: { ...limits, maxEntries: 2 } });
// Index stream of tensor 1: 0x12 holds the gaps 1 and 2 (0 1, 0 0 1) and three zero bits.
refused('a position outside its chunk', errors.IndexOutOfBoundsError, changed([vector32], { [STREAMS]: 0b10000010 }));
refused('a run of zeros past the chunk', errors.IndexOutOfBoundsError, changed([vector32], { [STREAMS]: 0b10000000 }));
refused('an index stream without its last index', errors.IndexStreamLengthError, changed([vector32], { [STREAMS]: 2 }));
refused('an index stream of zeros', errors.IndexStreamLengthError, changed([vector32], { [STREAMS]: 0 }));
refused('padding of the index stream', errors.NonZeroPaddingError, changed([vector32], { [STREAMS]: 0x92 }));
refused(
  'an index stream with a byte too many',
  errors.IndexStreamLengthError,
  (() => {
    const longer = Buffer.concat([vector32.subarray(0, 17), Buffer.alloc(1), vector32.subarray(17)]);
    longer[12] = 2;
    return assembleUpdate(HEADER, [longer]);
  })(),
);
refused('index bytes beyond the end', errors.TruncatedUpdateError, changed([tiles2], { [RECORD + 15]: 0xff }));
refused('fewer index bits than indices', errors.TruncatedUpdateError, changed([tiles2], { [RECORD + 12]: 4 }));
refused('an infinite value', errors.NonFiniteValueError, changed([vector32], { [STREAMS + 4]: 0x7f }));
refused(
  'a value that is NaN',
  errors.NonFiniteValueError,
  changed([vector32], { [STREAMS + 1]: 1, [STREAMS + 4]: 0xff }),
);
refused(
  'an infinite level',
  errors.NonFiniteValueError,
  changed([tiles2], { [STREAMS + 2]: 0x80, [STREAMS + 3]: 0x7f }),
);
refused(
  'an infinite upper end',
  errors.NonFiniteValueError,
  changed([listed8], { [STREAMS + 7]: 0x80, [STREAMS + 8]: 0x7f }),
);
const bounds = { maxMagnitude: 1, maxRms: 0.7 };
refused('a value above the bound', errors.ValueTooLargeError, changed([listed2], {}), {
  limits: { ...limits, bounds },
});
refused(
  'values that are together above the bound',
  errors.TensorNormError,
  changed([record(1, 32, { counts: [2], positions: [1, 4], values: [0.8, -0.7] })], {}),
  { limits: { ...limits, bounds } },
);
test('values at the bounds are within them', () => {
  const at = record(1, 32, { counts: [2], positions: [1, 4], values: [0.5, -0.5] });
  const options = { layout, limits: { ...limits, bounds: { maxMagnitude: 0.5, maxRms: 0.5 } } };
  assert.is(decodeUpdate(assembleUpdate(HEADER, [at]), options).tensors.length, 1);
});
refused('a negative lower end', errors.NonFiniteValueError, changed([listed8], { [STREAMS + 4]: 0xbf }));
refused('a lower end above the upper', errors.InvalidTableError, changed([listed8], { [STREAMS + 4]: 0x41 }));
refused(
  'padding of 2-bit values',
  errors.NonZeroPaddingError,
  (() => {
    const bytes = assembleUpdate(HEADER, [listed2]);
    bytes[bytes.length - 1] |= 0x40;
    return bytes;
  })(),
);

test('every class of malformed input has a test above', () => {
  const codes = Object.values(errors).flatMap((error) => ('code' in error ? [error.code as string] : []));
  assert.equal([...tested].sort(), codes.sort());
});

test.run();
