/** The native engine's variants as differences from the base, against each variant evaluated by itself. */
// time-limit: 120 s
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { scoringVariant } from '../../kernels/aggregate/apply.ts';
import type { SparseDelta } from '../../kernels/engine/sparse-delta.ts';
import { decodeUpdate } from '../../kernels/gradient/agf1.ts';
import { compressUpdate } from '../../kernels/gradient/compress.ts';
import { initialWeights } from '../../kernels/model/initialize.ts';
import { parameterCount, tensorLayout } from '../../kernels/model/layout.ts';
import { type Preset, parsePreset } from '../../kernels/model/preset.ts';
import { loadNativeLibrary, type NativeShape, usableInstructionSets } from '../../kernels/native/library.ts';
import { createNativeEngine, type NativeEngineOptions } from '../../kernels/native/native-engine.ts';
import { AdamW } from '../../kernels/train/adamw.ts';
import { seededTokens, seededValues } from './seeded.ts';
import { smallPreset as small } from './small-preset.ts';

const seed = new Uint8Array(32).fill(7);
const usable = usableInstructionSets({ emulated: true });
const able = usable.filter((name) => loadNativeLibrary(name).differences !== undefined);
const differenceTest = able.length === 0 ? test.skip : test;

/** No size is a multiple of a tile, and the vocabulary goes over a block of the head. */
const odd = parsePreset({ ...small, name: 'odd', hidden: 60, queryHeads: 6, ffn: 110, vocabulary: 2301, context: 133 });
const presets = [
  odd,
  parsePreset({ ...odd, name: 'odd-one-key', keyValueHeads: 1 }),
  parsePreset({ ...odd, name: 'odd-all-keys', keyValueHeads: 6, layers: 3 }),
  parsePreset({ ...odd, name: 'odd-tied', tied: true }),
];

/** Text in which the next token follows from the last, mostly: a model learns it in a few steps. */
function text(preset: Preset, sequences: number, from: number): Int32Array<ArrayBuffer> {
  const noise = seededTokens(from, sequences, preset.context, 12);
  let token = 0;
  return noise.map((random) => {
    token = random > 2 ? (token * 5 + 7) % 97 : (token + random * 31 + 1) % 97;
    return token;
  });
}

/** A trained model and updates of it. */
interface Trained {
  readonly weights: Float32Array;
  readonly updates: readonly SparseDelta[];
}

const trainedModels = new Map<Preset, Promise<Trained>>();

/** The same as {@link train}, once for each preset. */
function trained(preset: Preset): Promise<Trained> {
  const model = trainedModels.get(preset) ?? train(preset);
  trainedModels.set(preset, model);
  return model;
}

/** A model that has learned something, and updates of it as miners send them, at several steps. */
async function train(preset: Preset): Promise<Trained> {
  const engine = createNativeEngine({ preset, threads: 2, batch: 4 });
  try {
    engine.loadWeights(initialWeights(preset, seed));
    const learn = async (steps: number, from: number) => {
      const optimizer = new AdamW(engine.layout);
      for (let step = 0; step < steps; step++) {
        const { gradient, gradientNorm } = await engine.lossAndGradient(text(preset, 4, from + step));
        optimizer.step(engine.weights, gradient, gradientNorm, 3e-3);
      }
    };
    await learn(40, 100);
    const weights = engine.weights.slice();
    const updates: SparseDelta[] = [];
    for (const [i, step] of [0.26, 0.5, 1, 2, -1].entries()) {
      engine.loadWeights(weights);
      await learn(5, 1000 * (i + 1));
      const bytes = compressUpdate({
        layout: engine.layout,
        delta: weights.map((weight, at) => weight - (engine.weights[at] as number)),
        errorFeedback: new Float32Array(weights.length),
        options: { topK: i % 2 === 0 ? 64 : 128, valueBits: 2, decay: 0.95 },
        header: { round: 1, author: `${i}`.repeat(64), modelRoot: '0'.repeat(64), presetHash: '0'.repeat(64) },
      });
      const limits = { maxBytes: bytes.length, maxEntries: weights.length };
      const update = decodeUpdate(bytes, { layout: engine.layout, limits });
      updates.push(scoringVariant(update, engine.layout, { clipScale: 1, step }));
    }
    return { weights, updates };
  } finally {
    await engine.close();
  }
}

/** Changes of one tensor only: a fortieth of its elements. */
function changesOf(preset: Preset, name: string): SparseDelta {
  const slot = tensorLayout(preset).find((candidate) => candidate.name === name)!;
  const count = Math.ceil(slot.length / 40);
  const indices = Uint32Array.from({ length: count }, (_, i) => slot.offset + i * 40);
  return { indices, deltas: seededValues(5, count, -0.1, 0.1) };
}

/** Base and variants by an engine of its own. */
async function evaluate(
  options: Partial<NativeEngineOptions> & { preset: Preset },
  weights: Float32Array,
  tokens: Int32Array,
  variants: readonly SparseDelta[],
  maxBytes = 2 ** 30,
) {
  const engine = createNativeEngine({ threads: 2, batch: 2, ...options });
  try {
    engine.loadWeights(weights);
    return await engine.variantLosses(tokens, variants, { maxBytes });
  } finally {
    await engine.close();
  }
}

const mean = (values: Float64Array) => values.reduce((a, b) => a + b) / values.length;

for (const preset of presets)
  differenceTest(`${preset.name}: scores of trained-like updates are exact to 1e-4 nats`, async () => {
    const { weights, updates } = await trained(preset);
    const names = tensorLayout(preset).map(({ name }) => name);
    const variants = [...updates, ...names.map((name) => changesOf(preset, name))];
    let [largest, worst] = [0, 0];
    for (const context of preset === odd ? [1, 29, preset.context] : [preset.context]) {
      const tokens = text({ ...preset, context }, 5, 7);
      const exact = await evaluate({ preset, context, variants: 'exact' }, weights, tokens, variants);
      for (const instructionSet of context === 29 ? able : able.slice(0, 1)) {
        const options = { preset, context, instructionSet };
        const actual = await evaluate(options, weights, tokens, variants);
        assert.equal(actual.base, exact.base);
        for (const [i, losses] of actual.variants.entries()) {
          const [score, expected] = [losses!, exact.variants[i]!].map((after) => mean(exact.base) - mean(after));
          const error = Math.abs(score! - expected!);
          // Rounding averages out over predictions, of which one token a sequence makes five.
          const tolerance = Math.max(context === 1 ? 1e-3 : 1e-4, 1e-3 * Math.abs(expected!));
          assert.ok(error <= tolerance, `${context} tokens, variant ${i}: ${score}, exactly ${expected}`);
          if (context === preset.context && i < updates.length) {
            largest = Math.max(largest, Math.abs(expected!));
            worst = Math.max(worst, error);
          }
        }
        if (context === preset.context) continue;
        // Any number of threads, any partition: the same bits.
        const elements = 2 * context * preset.hidden;
        for (const [threads, maxBytes] of [
          [1, 2 ** 30],
          [3, 2 * 4 * elements * 7],
          [2, 1],
        ] as const)
          assert.equal(await evaluate({ ...options, threads }, weights, tokens, variants, maxBytes), actual);
      }
    }
    // Or nothing was tested.
    assert.ok(largest > 0.05, `largest change ${largest}`);
    assert.ok(worst <= 5e-5, `worst deviation ${worst} nats`);
    if (process.env.ALICE_TEST_FIGURES)
      console.error(`${preset.name}: up to ${largest} nats, worst deviation ${worst}`);
  });

differenceTest('a variant without effect has the losses of the base, to the bit', async () => {
  const { weights } = await trained(odd);
  const tokens = text(odd, 3, 7);
  const zero = (name: string) => ({ ...changesOf(odd, name), deltas: changesOf(odd, name).deltas.fill(0) });
  const nothing: SparseDelta = { indices: new Uint32Array(0), deltas: new Float32Array(0) };
  const zeros = tensorLayout(odd).map(({ name }) => zero(name));
  const { base, variants } = await evaluate({ preset: odd }, weights, tokens, [nothing, ...zeros]);
  for (const losses of variants) assert.equal(losses, base);
});

differenceTest('the way of evaluating can be chosen, and is exact where there is no bf16', async () => {
  const { weights, updates } = await trained(odd);
  const context = 29;
  const tokens = text({ ...odd, context }, 2, 7);
  for (const instructionSet of usable) {
    const options = { preset: odd, context, instructionSet };
    const exact = await evaluate({ ...options, variants: 'exact' }, weights, tokens, updates);
    const usual = await evaluate(options, weights, tokens, updates);
    assert.equal(usual.base, exact.base);
    if (able.includes(instructionSet)) assert.not.equal(usual.variants, exact.variants);
    else assert.equal(usual.variants, exact.variants);
    if (!able.includes(instructionSet))
      assert.throws(() => createNativeEngine({ ...options, threads: 1, batch: 1, variants: 'differences' }), /no bf16/);
  }
});

differenceTest('the library refuses changes and orders of calls that do not fit, and goes on', () => {
  const library = loadNativeLibrary(able.at(-1));
  const native = library.differences!;
  const { name: _name, tied, ...rest } = small;
  const shape: NativeShape = {
    ...{ ...rest, tied: Number(tied), batch: 2, threads: 2, recompute: 0, headBytes: 2 ** 20, bf16: 0 },
  };
  const engine = library.create(shape);
  const refused = (call: () => unknown, what: string) =>
    assert.throws(call, (error: NodeJS.ErrnoException) => error.code === 'ERR_NATIVE_ARGUMENT', what);
  const { hidden, context, vocabulary } = small;
  const blockLength = (parameterCount(small) - 2 * vocabulary * hidden - hidden) / 2;
  const [block, norm, head] = [blockLength, hidden, vocabulary * hidden].map((length) => seededValues(1, length));
  const [x, y, stream] = [0, 1, 2].map((i) => seededValues(i, 2 * context * hidden));
  const targets = new Int32Array(2 * context);
  const none = [new Uint32Array(0), new Float32Array(0)] as const;
  const one = new Float32Array(1);

  refused(() => native.block(engine, stream!, 0, ...none), 'no base');
  refused(() => native.headVariant(engine, 1, stream!, 0, ...none), 'no head');
  refused(() => native.headColumns(engine, head!, 0, 0, [], []), 'no head');
  refused(() => native.losses(engine, 0, new Float32Array(0)), 'no head');
  refused(() => native.base(engine, block!.subarray(1), x!, y!, 1), 'weights');
  refused(() => native.base(engine, block!, x!, x!, 1), 'in place');
  refused(() => native.base(engine, block!, x!.subarray(1), y!, 1), 'x');
  refused(() => native.base(engine, block!, x!, y!, 0), 'nothing packed');
  native.base(engine, block!, x!, y!, 1);
  refused(() => native.block(engine, stream!.subarray(hidden), 0, ...none), 'rows');
  const bad: [Uint32Array, Float32Array][] = [
    [Uint32Array.of(1), new Float32Array(2)],
    [Uint32Array.of(99), one],
    [Uint32Array.of(100 + blockLength), one],
    [Uint32Array.of(2 ** 32 - 1), one],
    [Uint32Array.of(700, 300), new Float32Array(2)],
    [[300] as unknown as Uint32Array, one],
    [Uint32Array.of(300), [1] as unknown as Float32Array],
  ];
  for (const [indices, deltas] of bad) refused(() => native.block(engine, stream!, 100, indices, deltas), `${indices}`);
  for (const offset of [-1, 0.5, 2 ** 60, Number.NaN])
    refused(() => native.block(engine, stream!, offset, ...none), `offset ${offset}`);
  native.block(engine, stream!, 100, Uint32Array.of(100, 99 + blockLength), new Float32Array(2));

  for (const variants of [-1, 1.5, 2 ** 40])
    refused(() => native.head(engine, norm!, x!, targets, variants), `${variants} variants`);
  refused(() => native.head(engine, norm!, x!, targets.with(3, vocabulary), 1), 'targets');
  native.head(engine, norm!, x!, targets, 2);
  refused(() => native.block(engine, stream!, 0, ...none), 'after the head began');
  refused(() => native.headVariant(engine, 0, stream!, 0, ...none), 'variant 0');
  refused(() => native.headVariant(engine, 3, stream!, 0, ...none), 'variant 3');
  native.headVariant(engine, 1, stream!, 0, ...none);
  const [noIndices, noDeltas] = [
    [none[0], none[0]],
    [none[1], none[1]],
  ];
  refused(() => native.headColumns(engine, head!, 0, 0, noIndices, noDeltas), 'a variant is missing');
  native.headVariant(engine, 2, stream!, 0, ...none);
  for (const [indices, deltas] of bad)
    refused(() => native.headVariant(engine, 2, stream!, 100, indices, deltas), `norm ${indices}`);
  refused(() => native.headColumns(engine, head!, 1, 0, noIndices, noDeltas), 'column');
  refused(() => native.headColumns(engine, head!.subarray(1), 0, 0, noIndices, noDeltas), 'head');
  refused(() => native.headColumns(engine, head!, 0, 0, noIndices.slice(1), noDeltas), 'too few');
  refused(() => native.headColumns(engine, head!, 0, 0, noIndices, [none[1], one]), 'lengths');
  refused(
    () => native.headColumns(engine, head!, 0, 0, [none[0], Uint32Array.of(9, 5)], [none[1], new Float32Array(2)]),
    'order',
  );
  refused(() => native.losses(engine, 0, new Float32Array(targets.length)), 'head not done');
  native.head(engine, norm!, x!, targets, 0);
  for (let column = 0; column < vocabulary; ) column = native.headColumns(engine, head!, column, 0, [], []);
  refused(() => native.losses(engine, 1, new Float32Array(targets.length)), 'no such variant');
  native.losses(engine, 0, new Float32Array(targets.length));
  native.end(engine);
  refused(() => native.losses(engine, 0, new Float32Array(targets.length)), 'ended');
  library.close(engine);
  refused(() => native.end(engine), 'closed');
});

test.run();
