/** What every {@link Engine} must do, whatever it runs on: called once for each engine and way of running it. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  type Engine,
  EngineBusyError,
  EngineClosedError,
  InvalidTokensError,
  NonFiniteError,
  WeightsLengthError,
} from '../../kernels/engine/engine.ts';
import { InvalidDeltaError, type SparseDelta } from '../../kernels/engine/sparse-delta.ts';
import { initialWeights } from '../../kernels/model/initialize.ts';
import { parameterCount, tensorLayout } from '../../kernels/model/layout.ts';
import { type Preset, parsePreset } from '../../kernels/model/preset.ts';
import { materials, references, sampledElements, shapeReferences } from './reference-vectors.ts';
import { seededTokens, seededUniform, seededValues } from './seeded.ts';
import { smallPreset as small } from './small-preset.ts';

/** Makes an engine with weights of its own. `context` is the preset's unless given. */
export type MakeEngine = (init: {
  readonly preset: Preset;
  readonly batch: number;
  readonly context?: number;
}) => Engine | Promise<Engine>;

/** Agreed relative difference to PyTorch in float64, unless an engine computes in less than float32. */
const TOLERANCE = 1e-4;

const seed = new Uint8Array(32).fill(7);
const tied = parsePreset({ ...small, name: 'test-tied', tied: true });

const bytes = (values: Float32Array) => Buffer.from(values.slice().buffer);

async function rejection(promise: Promise<unknown>): Promise<unknown> {
  return await promise.then(
    () => assert.unreachable('it did not reject'),
    (reason: unknown) => reason,
  );
}

/** Random changes in random order, some places twice. */
function randomDelta(preset: Preset, randomSeed: number, count: number, size = 0.3): SparseDelta {
  const uniform = seededUniform(randomSeed);
  const indices = Uint32Array.from({ length: count }, () => Math.floor(uniform() * parameterCount(preset)));
  indices.set(indices.subarray(0, count >> 2), count >> 1);
  return { indices, deltas: seededValues(randomSeed, count, -size, size) };
}

/** A change of one tensor only. */
function tensorDelta(preset: Preset, name: string, change = 0.05): SparseDelta {
  const { offset, length } = tensorLayout(preset).find((slot) => slot.name === name)!;
  const indices = Uint32Array.from({ length }, (_, i) => offset + i);
  return { indices, deltas: new Float32Array(length).fill(change) };
}

/** What an engine promises. */
export interface EnginePromises {
  /** Relative difference of losses and gradients to PyTorch's in float64. */
  readonly tolerance: number;
  /** Whether the losses of variants are to the bit those of making each change by itself, or near them. */
  readonly variants: 'exact' | 'near';
}

/** Of a mean loss of few tokens, nats, under changes that are large beside any update's. */
const NEAR = 5e-3;

/** Adds the suite's tests to the file's; the file ends with `test.run()`. */
export function engineCompliance(
  name: string,
  make: MakeEngine,
  { tolerance, variants: promised }: EnginePromises = { tolerance: TOLERANCE, variants: 'exact' },
): void {
  const close = (actual: number, expected: number, scale: number, what: string) =>
    assert.ok(Math.abs(actual - expected) <= tolerance * scale, `${what}: ${actual}, reference ${expected}`);
  const using = async (init: Parameters<MakeEngine>[0], body: (engine: Engine) => Promise<void>) => {
    const engine = await make(init);
    try {
      engine.loadWeights(initialWeights(init.preset, seed));
      await body(engine);
    } finally {
      await engine.close();
    }
  };
  const tokensOf = (sequences: number, from = 3) => seededTokens(from, sequences, small.context, small.vocabulary);

  // One pass, passes that divide the batch unevenly, and a pass larger than the batch.
  for (const reference of references)
    for (const batch of [reference.batch, 1 + (reference.batch % 2), reference.batch + 1])
      test(`${name}: ${reference.preset.name} agrees with PyTorch, ${batch} of ${reference.batch} at a time`, async () => {
        const { preset, gradient: expected } = reference;
        const { weights, tokens } = materials(preset, reference);
        await using({ preset, batch }, async (engine) => {
          engine.loadWeights(weights);
          const perSequence = await engine.losses(tokens);
          assert.is(perSequence.length, reference.sequenceLosses.length);
          for (const [i, loss] of perSequence.entries())
            close(loss, reference.sequenceLosses[i]!, loss, `sequence ${i}`);
          // Twice: the second call finds every buffer used.
          for (let call = 0; call < 2; call++) {
            const { loss, gradient, gradientNorm } = await engine.lossAndGradient(tokens);
            close(loss, reference.loss, reference.loss, 'loss');
            assert.is(gradient.length, expected.length);
            for (const slot of engine.layout) {
              const slice = expected.subarray(slot.offset, slot.offset + slot.length);
              const largest = slice.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
              for (let i = 0; i < slot.length; i++)
                close(gradient[slot.offset + i]!, slice[i]!, largest, `call ${call}, gradient of ${slot.name}[${i}]`);
            }
            close(gradientNorm, Math.hypot(...expected), gradientNorm, 'norm');
          }
        });
      });

  for (const reference of shapeReferences)
    test(`${name}: ${reference.preset.name} agrees with PyTorch`, async () => {
      const { preset, batch, tensors } = reference;
      const { weights, tokens } = materials(preset, reference);
      await using({ preset, batch }, async (engine) => {
        engine.loadWeights(weights);
        for (const [i, loss] of (await engine.losses(tokens)).entries())
          close(loss, reference.sequenceLosses[i]!, loss, `sequence ${i}`);
        const { loss, gradient } = await engine.lossAndGradient(tokens);
        close(loss, reference.loss, loss, 'loss');
        for (const [t, slot] of engine.layout.entries()) {
          const { norm, largest, samples } = tensors[t]!;
          const values = gradient.subarray(slot.offset, slot.offset + slot.length);
          close(Math.sqrt(values.reduce((sum, value) => sum + value * value, 0)), norm, norm, `norm of ${slot.name}`);
          for (const [i, at] of sampledElements(slot.length, samples.length).entries())
            close(values[at]!, samples[i]!, largest, `gradient of ${slot.name}[${at}]`);
        }
      });
    });

  test(`${name}: any number of sequences and contexts, down to one token`, async () => {
    const [alone, all] = [new Map<number, number>(), tokensOf(5)];
    for (const batch of [1, 2, 5, 7])
      await using({ preset: small, batch }, async (engine) => {
        for (const [i, loss] of (await engine.losses(all)).entries()) {
          alone.set(i, alone.get(i) ?? loss);
          close(loss, alone.get(i)!, loss, `sequence ${i}, ${batch} at a time`);
        }
        const { loss } = await engine.lossAndGradient(all);
        close(loss, [...alone.values()].reduce((a, b) => a + b) / 5, loss, 'mean loss');
      });
    for (const context of [1, 3, 8])
      await using({ preset: small, batch: 2, context }, async (engine) => {
        assert.is(engine.context, context);
        const tokens = seededTokens(2, 3, context, small.vocabulary);
        const losses = await engine.losses(tokens);
        assert.is(losses.length, 3);
        for (const loss of losses) assert.ok(Math.abs(loss - Math.log(small.vocabulary)) < 0.3, `${loss}`);
        assert.ok((await engine.lossAndGradient(tokens)).gradientNorm > 0);
      });
  });

  test(`${name}: the same call gives the same bytes, also on another engine`, async () => {
    const results: Buffer[] = [];
    for (let round = 0; round < 2; round++)
      await using({ preset: small, batch: 2 }, async (engine) => {
        for (let call = 0; call < 2; call++) {
          const { loss, gradient } = await engine.lossAndGradient(tokensOf(3));
          const losses = await engine.losses(tokensOf(3));
          results.push(Buffer.concat([bytes(gradient), Buffer.from(Float64Array.of(loss, ...losses).buffer)]));
        }
      });
    for (const result of results) assert.ok(result.equals(results[0]!));
  });

  test(`${name}: weights that were changed in place are seen by the next call`, async () => {
    for (const preset of [small, tied])
      for (const slot of tensorLayout(preset))
        await using({ preset, batch: 2 }, async (engine) => {
          const before = await engine.losses(tokensOf(2));
          const gradientBefore = (await engine.lossAndGradient(tokensOf(2))).gradient.slice();
          for (let i = 0; i < slot.length; i++) engine.weights[slot.offset + i]! += 0.05 * ((i % 3) - 0.7);
          assert.not.equal(await engine.losses(tokensOf(2)), before, slot.name);
          assert.not.equal((await engine.lossAndGradient(tokensOf(2))).gradient, gradientBefore, slot.name);
          engine.loadWeights(initialWeights(preset, seed));
          assert.equal(await engine.losses(tokensOf(2)), before, slot.name);
        });
  });

  test(`${name}: bad tokens and weights, overlapping and late calls are refused with their own errors`, async () => {
    const good = tokensOf(2);
    const engine = await make({ preset: small, batch: 2 });
    engine.loadWeights(initialWeights(small, seed));
    const calls = [
      (tokens: Int32Array, signal?: AbortSignal) => engine.losses(tokens, { ...(signal && { signal }) }),
      (tokens: Int32Array, signal?: AbortSignal) => engine.lossAndGradient(tokens, { ...(signal && { signal }) }),
      (tokens: Int32Array, signal?: AbortSignal) => engine.variantLosses(tokens, [], { ...(signal && { signal }) }),
    ];
    for (const call of calls) {
      for (const tokens of [
        good.subarray(1),
        new Int32Array(0),
        good.with(3, small.vocabulary),
        good.with(3, -1),
        good.with(good.length - 1, small.vocabulary),
      ])
        assert.instance(await rejection(call(tokens)), InvalidTokensError);
      const running = call(good);
      for (const other of calls) assert.instance(await rejection(other(good)), EngineBusyError);
      assert.instance(await rejection(engine.close()), EngineBusyError);
      await running;
      const reason = new RangeError('stop');
      assert.is(await rejection(call(good, AbortSignal.abort(reason))), reason);
      // In the middle, and the engine still works.
      const abort = new AbortController();
      const aborted = call(seededTokens(3, 64, small.context, small.vocabulary), abort.signal);
      setImmediate(() => abort.abort(reason));
      assert.is(await rejection(aborted), reason);
      await call(good);
    }
    const before = bytes(engine.weights);
    for (const length of [3, engine.weights.length + 1])
      assert.throws(
        () => engine.loadWeights(new Float32Array(length)),
        (error: Error) => error instanceof WeightsLengthError,
      );
    assert.ok(bytes(engine.weights).equals(before));
    await engine.close();
    await engine.close();
    for (const call of calls) assert.instance(await rejection(call(good)), EngineClosedError);
  });

  test(`${name}: NaN and infinity are refused, naming a tensor`, async () => {
    await using({ preset: small, batch: 2 }, async (engine) => {
      const tokens = tokensOf(2);
      const calls = [
        () => engine.losses(tokens),
        () => engine.lossAndGradient(tokens),
        () => engine.variantLosses(tokens, [randomDelta(small, 1, 10)]),
      ];
      const fails = async (tensor: string) => {
        for (const call of calls) {
          const error = await rejection(call());
          assert.instance(error, NonFiniteError);
          assert.is((error as NonFiniteError).tensor, tensor);
        }
      };
      for (const poison of [Number.NaN, Number.POSITIVE_INFINITY]) {
        engine.loadWeights(initialWeights(small, seed));
        engine.weights[tensorLayout(small).find((slot) => slot.name === 'layers.1.ffn.up')!.offset] = poison;
        await fails('layers.1.ffn.up');
      }
      // Finite weights can overflow too: final norm and head together.
      const norm = tensorLayout(small).find((slot) => slot.name === 'norm')!.offset;
      engine.loadWeights(initialWeights(small, seed).map((weight, i) => (i < norm ? weight : weight * 1e30)));
      await fails('losses');
    });
  });

  for (const preset of [small, tied])
    test(`${name}: variants of ${preset.name} are evaluated as if their changes were made, and leave no trace`, async () => {
      const tokens = tokensOf(5);
      const none: SparseDelta = { indices: new Uint32Array(0), deltas: new Float32Array(0) };
      const variants = [
        randomDelta(preset, 1, 400),
        none,
        randomDelta(preset, 2, 3000),
        ...['embedding', 'layers.0.attention.key', 'layers.1.ffn.down', 'norm'].map((tensor) =>
          tensorDelta(preset, tensor),
        ),
      ];
      await using({ preset, batch: 2 }, async (engine) => {
        const before = bytes(engine.weights);
        // A row has 32 numbers of 4 bytes, an activation 2 x 16 rows: room for all, for seven, for one beside another.
        const results = [];
        for (const maxBytes of [2 ** 30, 8 * 4096, 1]) {
          const parts: number[] = [];
          results.push(
            await engine.variantLosses(tokens, variants, { maxBytes, onPart: (...report) => parts.push(...report) }),
          );
          assert.ok(bytes(engine.weights).equals(before));
          // Layers and head, for each time that they are gone through: 3 passes of 8.
          const exactly = 3 * Math.ceil(24 / (maxBytes > 2 ** 20 ? 24 : maxBytes > 1 ? 7 : 1));
          const total = promised === 'exact' ? exactly : parts.length / 2;
          assert.ok(total % 3 === 0 && total >= 3 && total <= 72, `${total} parts`);
          assert.equal(parts, Array.from({ length: total }, (_, part) => [part + 1, total]).flat());
        }
        const [{ base, variants: losses }] = results as [(typeof results)[number]];
        for (const other of results) assert.equal(other, results[0]);
        assert.equal(base, await engine.losses(tokens));
        assert.equal(losses[1], base);
        for (const [i, { indices, deltas }] of variants.entries()) {
          engine.loadWeights(initialWeights(preset, seed));
          for (const [at, index] of indices.entries()) engine.weights[index]! += deltas[at]!;
          const expected = await engine.losses(tokens);
          if (promised === 'exact' || i === 1) assert.equal(losses[i], expected, `variant ${i}`);
          for (const [at, loss] of expected.entries())
            assert.ok(
              Math.abs(losses[i]![at]! - loss) <= NEAR,
              `variant ${i}: ${losses[i]![at]}, made by itself ${loss}`,
            );
          if (i !== 1) assert.not.equal(losses[i], base, `variant ${i}`);
        }
      });
    });

  test(`${name}: a variant that breaks the model has no losses and harms no other`, async () => {
    await using({ preset: small, batch: 4 }, async (engine) => {
      const before = bytes(engine.weights);
      const huge = [tensorDelta(small, 'layers.0.ffn.up', 3e38), tensorDelta(small, 'head', 3.4e38)];
      const fine = randomDelta(small, 3, 10);
      const { base, variants } = await engine.variantLosses(tokensOf(2), [huge[0]!, fine, huge[1]!]);
      assert.is(variants[0], undefined);
      assert.is(variants[2], undefined);
      assert.equal(variants[1], (await engine.variantLosses(tokensOf(2), [fine])).variants[0]);
      assert.equal(base, await engine.losses(tokensOf(2)));
      assert.ok(bytes(engine.weights).equals(before));
    });
  });

  test(`${name}: a change that does not fit is refused; an abort among variants leaves no trace`, async () => {
    await using({ preset: small, batch: 4 }, async (engine) => {
      const before = bytes(engine.weights);
      const good = randomDelta(small, 3, 100);
      const bad: SparseDelta[] = [
        { indices: Uint32Array.of(engine.weights.length), deltas: Float32Array.of(1) },
        { indices: Uint32Array.of(1, 2), deltas: Float32Array.of(1) },
        { indices: Uint32Array.of(1), deltas: Float32Array.of(Number.NaN) },
        { indices: Uint32Array.of(1), deltas: Float32Array.of(Number.NEGATIVE_INFINITY) },
      ];
      const onPart = () => assert.unreachable('something was computed');
      for (const delta of bad)
        assert.instance(
          await rejection(engine.variantLosses(tokensOf(2), [good, delta], { onPart })),
          InvalidDeltaError,
        );
      const abort = new AbortController();
      const reason = new Error('enough');
      const aborted = engine.variantLosses(tokensOf(6), [good, good], {
        signal: abort.signal,
        onPart: (done) => done === 1 && abort.abort(reason),
      });
      assert.is(await rejection(aborted), reason);
      assert.ok(bytes(engine.weights).equals(before));
    });
  });
}
