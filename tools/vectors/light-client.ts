/**
 * Holds the light client against the cases of tendermint-rs (`light-client/` of the shared vectors), in its JSON forms:
 *
 * - a case of single steps, `{initial, input: [{block, now, verdict}]}`: each block is verified from the last one that
 *   succeeded, with no clock drift allowed, as the generator assumes;
 * - a case with one outcome, `{initial, input: [block], expected_output}`;
 * - a bisection, `{trust_options, primary, witnesses, height_to_verify, now, expected_output}`: the primary's blocks are
 *   what the provider has, and a witness that has another header at the target contradicts it;
 * - a batch, `{model, tests}`: names the cases that a model generates, which are files of their own.
 */
import { globSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import * as v from 'valibot';
import { UntrustedHeaderError, verifyToHeight } from '../../node/consensus/light-client/bisect.ts';
import { type TrustOptions, type Verdict, verifyAlone, verifyNext } from '../../node/consensus/light-client/verify.ts';
import type { ReplayResult } from './consensus-itf.ts';
import {
  lightBlockSchema,
  membersOf,
  signedHeaderSchema,
  type TendermintBlock,
  tendermintBlock,
  tendermintScheme,
  timeSchema,
  validatorSetSchema,
} from './tendermint.ts';

/** What the test cases without a clock drift of their own assume (tendermint-rs, light-client/tests). */
const BISECTION_CLOCK_DRIFT_NS = 10_000_000_000n;

const duration = v.pipe(
  v.union([v.pipe(v.string(), v.regex(/^\d{1,19}$/)), v.pipe(v.number(), v.safeInteger())]),
  v.transform((value) => BigInt(value)),
);
const initialSchema = v.object({
  signed_header: signedHeaderSchema,
  next_validator_set: validatorSetSchema,
  trusting_period: duration,
  now: v.optional(timeSchema),
});
const VERDICTS = ['SUCCESS', 'NOT_ENOUGH_TRUST', 'INVALID', 'FAILED_TRUSTING_PERIOD', 'PARSE_ERROR'] as const;
const stepSchema = v.object({ block: v.unknown(), now: timeSchema, verdict: v.picklist(VERDICTS) });
const stepsSchema = v.object({ initial: initialSchema, input: v.array(stepSchema) });
const outcome = v.nullish(v.string(), '');
const oneOutcomeSchema = v.object({ initial: initialSchema, input: v.array(v.unknown()), expected_output: outcome });
const number = v.union([
  v.number(),
  v.pipe(
    v.string(),
    v.regex(/^\d{1,15}$/),
    v.transform((value) => Number(value)),
  ),
]);
const providerSchema = v.object({ lite_blocks: v.array(v.unknown()) });
const bisectionSchema = v.object({
  trust_options: v.object({
    period: duration,
    height: number,
    hash: v.optional(v.string()),
    trust_level: v.object({ numerator: duration, denominator: duration }),
  }),
  primary: providerSchema,
  witnesses: v.nullish(
    v.array(
      v.pipe(
        v.union([v.object({ value: providerSchema }), providerSchema]),
        v.transform((given) => ('value' in given ? given.value : given)),
      ),
    ),
    [],
  ),
  height_to_verify: number,
  now: timeSchema,
  expected_output: outcome,
});
const batchSchema = v.object({ model: v.string(), tests: v.array(v.string()) });

function readBlock(value: unknown): TendermintBlock {
  const { signed_header, validator_set, next_validator_set } = v.parse(lightBlockSchema, value);
  return tendermintBlock(signed_header, validator_set, next_validator_set);
}

type Trusted = Pick<TendermintBlock, 'header' | 'nextValidators'>;

/** Where a case begins: a header that is believed, with the set that it names. */
function initialBlock({ signed_header, next_validator_set }: v.InferOutput<typeof initialSchema>): Trusted {
  const { header } = tendermintBlock(signed_header, { validators: [] }, next_validator_set);
  return { header, nextValidators: membersOf(next_validator_set).members };
}

function verify(trusted: Trusted, block: TendermintBlock, options: TrustOptions, now: bigint): Verdict {
  return verifyNext(tendermintScheme, trusted, block, options, now);
}

/** True when what the rules say is what the case expects. A block that cannot be read is an invalid one. */
function agrees(expected: (typeof VERDICTS)[number], got: Verdict | undefined): boolean {
  if (got === undefined) return expected === 'PARSE_ERROR' || expected === 'INVALID';
  switch (expected) {
    case 'SUCCESS':
      return got.verdict === 'success';
    case 'NOT_ENOUGH_TRUST':
      return got.verdict === 'notEnoughTrust';
    case 'FAILED_TRUSTING_PERIOD':
      return got.verdict === 'invalid' && got.reason === 'expired';
    case 'INVALID':
    case 'PARSE_ERROR':
      return got.verdict === 'invalid';
  }
}

const describe = (got: Verdict | undefined): string => {
  if (got === undefined) return 'unreadable';
  return got.verdict === 'success' ? 'success' : `${got.verdict} (${got.detail})`;
};

function replaySteps({ initial, input }: v.InferOutput<typeof stepsSchema>): ReplayResult {
  const mismatches: string[] = [];
  const options = { trustingPeriod: initial.trusting_period, clockDrift: 0n };
  let trusted = initialBlock(initial);
  for (const [index, { block: value, now, verdict: expected }] of input.entries()) {
    let got: Verdict | undefined;
    try {
      const block = readBlock(value);
      got = verify(trusted, block, options, now);
      if (got.verdict === 'success') trusted = block;
    } catch (error) {
      if (!(error instanceof v.ValiError)) throw error;
    }
    if (!agrees(expected, got)) mismatches.push(`input ${index}: ${describe(got)}, expected ${expected}`);
  }
  return { steps: input.length, mismatches };
}

function replayOneOutcome(value: v.InferOutput<typeof oneOutcomeSchema>): ReplayResult {
  const { initial, input, expected_output } = value;
  const options = { trustingPeriod: initial.trusting_period, clockDrift: BISECTION_CLOCK_DRIFT_NS };
  let trusted = initialBlock(initial);
  let failure = '';
  for (const given of input) {
    try {
      const block = readBlock(given);
      const got = verify(trusted, block, options, initial.now ?? block.header.time);
      if (got.verdict === 'success') trusted = block;
      else failure = describe(got);
    } catch (error) {
      if (!(error instanceof v.ValiError)) throw error;
      failure = describe(undefined);
    }
  }
  return outcomeOf(input.length, failure, expected_output === 'error');
}

function outcomeOf(steps: number, failure: string, expected: boolean): ReplayResult {
  if ((failure !== '') === expected) return { steps, mismatches: [] };
  return { steps, mismatches: [expected ? 'succeeded, expected an error' : `${failure}, expected success`] };
}

async function replayBisection(value: v.InferOutput<typeof bisectionSchema>): Promise<ReplayResult> {
  const { trust_options, primary, witnesses, height_to_verify, now, expected_output } = value;
  let steps = 1;
  let failure = '';
  try {
    const blocks = new Map(primary.lite_blocks.map(readBlock).map((block) => [block.header.height, block]));
    const find = (height: number): TendermintBlock => {
      const block = blocks.get(height);
      if (block === undefined) throw new UntrustedHeaderError(`the primary has no block ${height}`);
      return block;
    };
    const trusted = find(trust_options.height);
    if (trust_options.hash !== undefined && tendermintScheme.headerHash(trusted) !== trust_options.hash.toLowerCase())
      throw new UntrustedHeaderError('the trusted header has another hash');
    const alone = verifyAlone(tendermintScheme, trusted);
    if (alone.verdict !== 'success') throw new UntrustedHeaderError(alone.detail);
    const { target, fetched } = await verifyToHeight({
      scheme: tendermintScheme,
      trusted,
      height: height_to_verify,
      provider: { lightBlock: async (height) => find(height) },
      options: {
        trustingPeriod: trust_options.period,
        clockDrift: BISECTION_CLOCK_DRIFT_NS,
        trustLevel: trust_options.trust_level,
      },
      now: () => now,
    });
    steps = fetched;
    for (const witness of witnesses) {
      const other = witness.lite_blocks.map(readBlock).find(({ header }) => header.height === height_to_verify);
      if (other !== undefined && tendermintScheme.headerHash(other) !== tendermintScheme.headerHash(target))
        throw new UntrustedHeaderError('a witness has another header');
    }
  } catch (error) {
    if (!(error instanceof UntrustedHeaderError || error instanceof v.ValiError)) throw error;
    failure = error.message;
  }
  return outcomeOf(steps, failure, expected_output === 'error');
}

/** A batch holds nothing to verify itself: its steps are the cases that are there. */
function countBatch(path: string, { model, tests }: v.InferOutput<typeof batchSchema>): ReplayResult {
  const found = globSync('**/*.json', { cwd: dirname(path) }).map((name) => basename(name, '.json'));
  const names = new Set(found);
  const steps = tests.filter((name) => names.has(`${basename(model, '.tla')}_${name}`)).length;
  return { steps, mismatches: [] };
}

const isStep = (value: unknown): boolean => value !== null && typeof value === 'object' && 'verdict' in value;

/**
 * Replays a parsed file; undefined when it has none of the forms above. Throws a ValiError when it has the outline of a
 * case and cannot be read as one.
 */
export async function replayLightClient(path: string, value: unknown): Promise<ReplayResult | undefined> {
  if (value === null || typeof value !== 'object') return undefined;
  if ('trust_options' in value) return replayBisection(v.parse(bisectionSchema, value));
  if ('initial' in value && 'input' in value && Array.isArray(value.input)) {
    // A case of steps says a verdict for each; one without inputs is neither.
    const stepwise = value.input.length === 0 || isStep(value.input[0]);
    return stepwise ? replaySteps(v.parse(stepsSchema, value)) : replayOneOutcome(v.parse(oneOutcomeSchema, value));
  }
  const batch = v.safeParse(batchSchema, value);
  return batch.success ? countBatch(path, batch.output) : undefined;
}
