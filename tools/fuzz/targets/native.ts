/**
 * Calls into the native library with arguments that nobody means well with. An input is a program: which engine is made,
 * then calls, each with one byte an argument that says what goes in place of the right value (0: nothing).
 */
import { parameterCount } from '../../../kernels/model/layout.ts';
import { parsePreset } from '../../../kernels/model/preset.ts';
import {
  loadNativeLibrary,
  type NativeHandle,
  type NativeShape,
  NativeUnavailableError,
  usableInstructionSets,
} from '../../../kernels/native/library.ts';
import { requireSound } from '../target.ts';

export const describe = 'calls into the native library with arguments that do not fit';

export const headBytes = 24;

/** Arrays of this model are small; a shape that is refused must not have been allocated for. */
export const allocationCap = (): number => 64 * 2 ** 20;

const size = { vocabulary: 70, hidden: 12, layers: 1, queryHeads: 2, keyValueHeads: 1, ffn: 20, context: 5 };
const preset = parsePreset({ ...size, name: 'fuzz', ropeTheta: 10_000, normEpsilon: 1e-5, tied: false });
const shape: NativeShape = {
  ...{ ...size, batch: 2, ropeTheta: 10_000, normEpsilon: 1e-5, tied: 0, recompute: 0, headBytes: 2 ** 16 },
  ...{ threads: 1, bf16: 0 },
};
const parameters = parameterCount(preset);
const blockParameters = parameters - 2 * size.vocabulary * size.hidden - size.hidden;
const FIELDS = Object.keys(shape);

/** What stands in place of a number. */
const NUMBERS: readonly unknown[] = [
  ...[1, 0, -1, 3, 64, 2 ** 10, 2 ** 16, 2 ** 24, 2 ** 31, 2 ** 32 + 1, 2 ** 53, 2 ** 63, 1e300],
  ...[Number.NaN, Number.POSITIVE_INFINITY, 0.5, -0, undefined, null, '1', 1n, {}, Symbol.iterator, [7]],
];

type Functions = Readonly<Record<string, (...values: unknown[]) => unknown>>;
type Int32OrFloat32 = typeof Float32Array | typeof Int32Array;

/** An error of the program's own, which goes through the library. */
class GetterError extends Error {
  static readonly code = 'ERR_GETTER';
  readonly code = GetterError.code;
}

function detach(view: ArrayBufferView): void {
  if (view.buffer instanceof ArrayBuffer && !view.buffer.detached) view.buffer.transfer(0);
}

/** Makes the arguments of calls from the bytes of an input. */
class Caller {
  readonly #functions: Functions;
  readonly #engine: unknown;
  /** What may stand for the engine. */
  readonly #handles: readonly unknown[];
  readonly #choices: Uint8Array;
  #at = 0;
  /** Arrays of the current call. */
  #arrays: (Float32Array | Int32Array)[] = [];

  constructor(functions: Functions, engine: unknown, closed: unknown, foreign: unknown, choices: Uint8Array) {
    this.#functions = functions;
    this.#engine = engine;
    this.#handles = [engine, closed, foreign, {}, null, 7, [], new Proxy({ engine }, {}), Object.create({ engine })];
    this.#choices = choices;
  }

  get done(): boolean {
    return this.#at >= this.#choices.length;
  }

  choose(): number {
    return this.#choices[this.#at++] ?? 0;
  }

  /** Makes the next call. */
  call(): unknown {
    this.#arrays = [];
    const { losses, train, block, headLosses, squares, step, close, supported } = this.#functions as Functions &
      Record<string, () => unknown>;
    const { vocabulary, hidden, context } = size;
    const sequences = 1 + (this.choose() % 2);
    const weights = () => this.floats(parameters);
    const rows = () => this.floats(sequences * context);
    const calls = [
      () => losses?.(this.handle(), weights(), this.ids(sequences * (context + 1)), rows()),
      () =>
        train?.(
          ...[this.handle(), weights(), this.ids(sequences * (context + 1)), rows(), this.number()],
          ...[weights(), this.number()],
        ),
      () => {
        const stream = () => this.floats(sequences * context * hidden);
        return block?.(this.handle(), this.floats(blockParameters), stream(), stream());
      },
      () => {
        const [norm, head] = [this.floats(hidden), this.floats(vocabulary * hidden)];
        return headLosses?.(this.handle(), norm, head, this.floats(3 * hidden), this.ids(3), this.floats(3));
      },
      () => squares?.(this.handle(), this.floats(100)),
      () => {
        const [engine, w, g, m, v] = [this.handle(), ...Array.from({ length: 4 }, () => this.floats(100))];
        return step?.(engine, w, g, m, v, this.constants());
      },
      () => close?.(this.handle(1)),
      () => supported?.(),
      () => losses?.(this.handle(), weights()),
      ...this.#differenceCalls(sequences),
    ];
    return calls[this.choose() % calls.length]?.();
  }

  /** Those for variants as differences, where the library has them; in any order. */
  #differenceCalls(sequences: number): readonly (() => unknown)[] {
    const { differences } = this.#functions as { readonly differences?: Functions };
    if (differences === undefined) return [];
    const { vocabulary, hidden, context } = size;
    const { base, block, head, headVariant, headColumns, losses, end } = differences;
    const stream = () => this.floats(sequences * context * hidden);
    const table = () => this.floats(vocabulary * hidden);
    const rows = sequences * context;
    return [
      () => base?.(this.handle(), this.floats(blockParameters), stream(), stream(), this.small()),
      () => block?.(this.handle(), stream(), this.small(), this.indices(blockParameters), this.floats(3)),
      () => head?.(this.handle(), this.floats(hidden), stream(), this.ids(rows), this.small()),
      () => headVariant?.(this.handle(), this.small(), stream(), this.small(), this.indices(hidden), this.floats(3)),
      () => {
        const [engine, weights, column, offset] = [this.handle(), table(), this.small(), this.small()];
        const indices = this.list(() => this.indices(vocabulary * hidden));
        return headColumns?.(
          engine,
          weights,
          column,
          offset,
          indices,
          this.list(() => this.floats(3)),
        );
      },
      () => losses?.(this.handle(), this.small(), this.floats(rows)),
      () => end?.(this.handle()),
    ];
  }

  /** 0, 1 or 2, mostly. */
  small(): unknown {
    const choice = this.choose();
    return choice < 200 ? choice % 3 : NUMBERS[choice % NUMBERS.length];
  }

  /** Three indices of changes of `length` elements, mostly ones that fit. */
  indices(length: number): unknown {
    const choice = this.choose();
    const bad = [
      [2, 1, 0],
      [0, 1, length],
      [0, length + 2 ** 20, 1],
      [2 ** 32 - 1, 2 ** 32 - 1, 0],
    ];
    if (choice < 128) return Uint32Array.of(choice, choice, length - 1);
    return choice < 200 ? Uint32Array.from(bad[choice % 4] ?? []) : this.#array(Int32Array, 3, choice);
  }

  /** Up to two elements; getters do what they like in the middle of the call. */
  list(element: () => unknown): unknown {
    const choice = this.choose();
    if (choice < 200) return Array.from({ length: choice % 3 }, element);
    const getting = (get: () => unknown) => Object.defineProperty([element()], 0, { get });
    const makers: readonly (() => unknown)[] = [
      () => getting(() => this.#arrays.map(detach).length),
      () => getting(() => this.#functions.close?.(this.#engine)),
      () =>
        getting(() => {
          throw new GetterError('no');
        }),
      () => new Proxy([element()], {}),
      () => new Array(2 ** 31),
      () => ({ length: 1 }),
      () => undefined,
    ];
    return makers[choice % makers.length]?.();
  }

  handle(shift = 0): unknown {
    return this.#handles[(this.choose() + shift) % this.#handles.length];
  }

  number(): unknown {
    return NUMBERS[this.choose() % NUMBERS.length];
  }

  floats(length: number): unknown {
    return this.#array(Float32Array, length, this.choose());
  }

  /** Zeros, or ids out of range in an array that fits. */
  ids(length: number): unknown {
    const choice = this.choose();
    const bad = [-1, size.vocabulary, 2 ** 31 - 1, -(2 ** 31)][choice & 3] ?? 0;
    return choice < 200 ? this.#array(Int32Array, length, choice) : new Int32Array(length).fill(bad, length - 1);
  }

  /** Of an optimizer's step. Getters do what they like in the middle of the call. */
  constants(): unknown {
    const right = { beta1: 0.9, beta2: 0.9, epsilon: 1, clip: 1, meanCorrection: 1, squareCorrection: 1, keep: 1 };
    const getting = (get: () => unknown) => Object.defineProperty({ ...right }, 'keep', { get });
    const makers: readonly (() => unknown)[] = [
      () => right,
      () => ({ ...right, clip: this.number() }),
      () => ({ beta1: 1 }),
      () => getting(() => this.#arrays.map(detach).length),
      () => getting(() => this.#functions.close?.(this.#engine) ?? 1),
      () =>
        getting(() => {
          throw new GetterError('no');
        }),
      () => new Proxy(right, {}),
      () => undefined,
    ];
    return makers[this.choose() % makers.length]?.();
  }

  /** The array that belongs there, wherever it lies in memory, for the first five choices; later something else. */
  #array(Type: Int32OrFloat32, length: number, choice: number): unknown {
    const bytes = 4 * length;
    const resizable = () => new ArrayBuffer(bytes, { maxByteLength: bytes + 64 });
    const kept = (view: Float32Array | Int32Array) => {
      this.#arrays.push(view);
      return view;
    };
    const makers: readonly (() => unknown)[] = [
      () => kept(new Type(length)),
      () =>
        Type === Float32Array
          ? new Float32Array(new SharedArrayBuffer(bytes))
          : new Int32Array(new SharedArrayBuffer(bytes)),
      () => kept(new Type(resizable())),
      () => new Type(new ArrayBuffer(bytes + 8), 4, length),
      () => this.#arrays.find((view) => view instanceof Type && view.length === length) ?? kept(new Type(length)),
      () => new Type(length + 1),
      () => new Type(Math.max(0, length - 1)),
      () => new Type(0),
      () => new Type(7 * length),
      () => {
        const view = new Type(length);
        detach(view);
        return view;
      },
      () => {
        const buffer = resizable();
        const view = new Type(buffer, 0, length);
        buffer.resize(Math.max(0, bytes - 4));
        return view;
      },
      () => {
        const buffer = resizable();
        const view = new Type(buffer);
        buffer.resize(bytes + 4);
        return view;
      },
      () => new (Type === Float32Array ? Int32Array : Float32Array)(length),
      () => new Float64Array(length),
      () => new Uint32Array(length),
      () => new BigInt64Array(length),
      () => new Uint8ClampedArray(length),
      // Younger than the interface that the library is compiled for.
      () => new Float16Array(length),
      () => new DataView(new ArrayBuffer(bytes)),
      () => new ArrayBuffer(bytes),
      () => new Proxy(new Type(length), {}),
      () => Object.create(new Type(length)) as unknown,
      () => Array.from({ length }, () => 0),
      () => null,
      () => length,
    ];
    return makers[choice % makers.length]?.();
  }
}

/** Well-formed programs: engine, then calls with right arguments only. */
export function seeds(): Uint8Array[] {
  const programs = Array.from({ length: 16 }, (_, kind) => Uint8Array.of(255, 0, 0, kind, ...new Uint8Array(8)));
  return [
    ...programs,
    // A base and a variant through a block and the head: sequences, call, then one byte an argument.
    Uint8Array.of(
      ...[255, 0],
      ...[0, 9, 0, 0, 0, 0, 1],
      ...[0, 10, 0, 0, 0, 5, 0],
      ...[0, 11, 0, 0, 0, 0, 1],
      ...[0, 12, 0, 1, 0, 0, 3, 0],
      ...[0, 13, 0, 0, 0, 0, 1, 7, 1, 0],
      ...[0, 14, 0, 1, 0],
      ...[0, 15, 0],
    ),
    Uint8Array.of(255, 0, ...Array.from({ length: 6 }, (_, kind) => [0, kind, 0, 0, 0, 0, 0, 0]).flat()),
  ];
}

/** The shape with one field changed, for half of all first bytes. */
function shapeOf(field: number, value: number): unknown {
  const name = field < 128 ? FIELDS[field % FIELDS.length] : undefined;
  return name === undefined ? shape : { ...shape, [name]: NUMBERS[value % NUMBERS.length] };
}

/** The library, and another whose engines it must not take; undefined where none is built. */
const libraries = (() => {
  const [first] = usableInstructionSets();
  return first === undefined ? undefined : { library: loadNativeLibrary(), other: loadNativeLibrary(first) };
})();

/** Runs a program. Whatever it does, the library answers with its own errors, and an engine still computes. */
export function run(input: Uint8Array): string {
  if (libraries === undefined) return (input[0] ?? 0) > 127 ? 'accepted' : NativeUnavailableError.code;
  const { library, other } = libraries;
  let outcome = 'accepted';
  const attempt = (call: () => unknown) => {
    try {
      return call();
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === undefined || !['ERR_NATIVE_ARGUMENT', 'ERR_NATIVE_MEMORY', GetterError.code].includes(code))
        throw error;
      outcome = code;
      return undefined;
    }
  };
  const made = attempt(() => library.create(shapeOf(input[0] ?? 255, input[1] ?? 0) as NativeShape));
  if (made !== undefined) library.close(made as NativeHandle);
  // A few have a second thread: waiting for it takes most of the time.
  const threads = input[1] === 1 ? 2 : 1;
  const [engine, closed] = [library.create({ ...shape, threads }), library.create(shape)];
  library.close(closed);
  const foreign = other === library ? undefined : other.create(shape);
  const caller = new Caller(library as unknown as Functions, engine, closed, foreign, input.subarray(2));
  while (!caller.done) attempt(() => caller.call());
  if (foreign !== undefined) other.close(foreign);
  const rows = new Float32Array(size.context);
  let open = true;
  try {
    library.losses(engine, new Float32Array(parameters), new Int32Array(size.context + 1), rows);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_NATIVE_ARGUMENT') throw error;
    // A call closed it.
    open = false;
  }
  requireSound(!open || rows.every((loss) => Math.abs(loss - Math.log(size.vocabulary)) < 1e-5), 'an engine goes on');
  if (open) library.close(engine);
  return outcome;
}
