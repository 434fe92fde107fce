/** One configuration setting: what it is, what it may be, and how it is written in text. */

import * as v from 'valibot';

/** Description of a setting. `T` is the type of its value. */
export interface Setting<T> {
  /** One line for people: what it decides. Ends without a full stop. */
  readonly description: string;
  /** Unit of the value, such as `connections`; empty where the value says it itself. */
  readonly unit: string;
  /** The value where nothing else is said. Checked like any other. */
  readonly fallback: T;
  /** Checks a value from the configuration file or from {@link fromText}, and says what is wrong with it. */
  readonly schema: v.GenericSchema<unknown, T>;
  /** Reads the form that stands in an environment variable or flag; what cannot be read is left for the schema to refuse. */
  readonly fromText: (text: string) => unknown;
  /** Writes the value the way {@link fromText} reads it. */
  readonly toText: (value: T) => string;
  /** The value is never shown. */
  readonly secret: boolean;
}

/** The type of a setting's value. */
export type ValueOf<S> = S extends Setting<infer T> ? T : never;

interface Words {
  description: string;
  unit?: string;
  secret?: boolean;
}

const describe = ({ description, unit = '', secret = false }: Words) => ({ description, unit, secret });

/** Free text; `schema` may narrow it. */
export function text(words: Words & { fallback: string; schema?: v.GenericSchema<unknown, string> }): Setting<string> {
  return {
    ...describe(words),
    fallback: words.fallback,
    schema: words.schema ?? v.string('expected text'),
    fromText: (given) => given,
    toText: (value) => value,
  };
}

/** A whole number from `low` to `high`. */
export function wholeNumber(words: Words & { fallback: number; low: number; high: number }): Setting<number> {
  const { low, high } = words;
  const message = `expected a whole number from ${low} to ${high}`;
  return {
    ...describe(words),
    fallback: words.fallback,
    schema: v.pipe(v.number(message), v.integer(message), v.minValue(low, message), v.maxValue(high, message)),
    fromText: (given) => (/^-?\d{1,15}$/.test(given) ? Number(given) : given),
    toText: String,
  };
}

/** One of a few words. */
export function choice<const T extends string>(
  words: Words & { fallback: NoInfer<T>; choices: readonly T[] },
): Setting<T> {
  return {
    ...describe(words),
    fallback: words.fallback,
    schema: v.picklist(words.choices, `expected one of ${words.choices.join(', ')}`),
    fromText: (given) => given,
    toText: (value) => value,
  };
}

/** At most this many entries in a list or map: a mistake, not a need, is longer. */
const LONGEST_LIST = 256;

const splitList = (given: string): string[] =>
  given
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '');

/** A list; in text its items are separated by commas. */
export function list(
  words: Words & { fallback: readonly string[]; item: v.GenericSchema<string, string> },
): Setting<readonly string[]> {
  return {
    ...describe(words),
    fallback: words.fallback,
    schema: v.pipe(
      v.array(v.pipe(v.string('expected text'), words.item), 'expected a list'),
      v.maxLength(LONGEST_LIST, `expected at most ${LONGEST_LIST} items`),
    ),
    fromText: splitList,
    toText: (value) => value.join(','),
  };
}

/** Words by name; in text `name=word` pairs separated by commas. */
export function choiceByName<const T extends string>(
  words: Words & { fallback: Readonly<Record<string, NoInfer<T>>>; choices: readonly T[] },
): Setting<Readonly<Record<string, T>>> {
  const name = v.pipe(
    v.string(),
    v.regex(/^[a-z][a-zA-Z0-9-]*(\.[a-zA-Z0-9-]+)*$/, 'expected names such as network or consensus.timer'),
  );
  return {
    ...describe(words),
    fallback: words.fallback,
    schema: v.pipe(
      v.record(
        name,
        v.picklist(words.choices, `expected one of ${words.choices.join(', ')} for each name`),
        `expected NAME=${words.choices[0]} pairs`,
      ),
      v.maxEntries(LONGEST_LIST, `expected at most ${LONGEST_LIST} entries`),
    ),
    fromText: (given) => {
      const pairs = splitList(given).map((pair) => pair.split('=').map((side) => side.trim()));
      return pairs.every((sides) => sides.length === 2) ? Object.fromEntries(pairs) : given;
    },
    toText: (value) =>
      Object.entries(value)
        .map((pair) => pair.join('='))
        .join(','),
  };
}
