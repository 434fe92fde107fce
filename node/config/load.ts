/** Puts a configuration together: defaults < file < environment < flags. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as v from 'valibot';
import { ConfigFileError, InvalidAssignmentError, InvalidSettingError, UnknownSettingError } from './errors.ts';
import { type Config, environmentName, settingsByKey } from './settings.ts';

/** Where a value comes from, from the weakest to the strongest. */
export type SettingSource = 'default' | 'file' | 'environment' | 'flag';

/** The value of one setting. */
export interface ResolvedSetting {
  key: string;
  value: unknown;
  source: SettingSource;
  /** The file's path, the variable's or the flag's name; `default` for a default. */
  origin: string;
}

/** A configuration, and where each value of it comes from. */
export interface LoadedConfig {
  config: Config;
  /** One entry for every setting, in the order of settings.ts. */
  settings: readonly ResolvedSetting[];
  /** The file that was read, if there was one. */
  file: string | undefined;
}

/** What {@link loadConfig} reads. */
export interface ConfigInputs {
  /** Path of the configuration file (`--config`); it must exist. Without it, `alice.json` in `dir` is read if it exists. */
  file?: string | undefined;
  /** `process.env`, or another one. */
  env: Readonly<Record<string, string | undefined>>;
  /** Values given on the command line, by key, as text or as they are. Undefined ones were not given. */
  flags?: Readonly<Record<string, unknown>>;
}

/** Name of the configuration file inside `dir`. */
export const CONFIG_FILE_NAME = 'alice.json';

/** A configuration file is a page of text. */
const LARGEST_FILE_BYTES = 1024 * 1024;

/** Variables that begin like settings and are none: they steer launcher, native backend, test runner, `--config`. */
const OTHER_VARIABLES = /^ALICE_(NODE|LAUNCHED|CONFIG|NATIVE_.*|TEST_.*)$/;

/** An error message shows this much of a wrong value, in characters. */
const LONGEST_SHOWN_VALUE = 100;

type Given = Omit<ResolvedSetting, 'value'> & { value: unknown };

function check({ key, value, source, origin }: Given): ResolvedSetting {
  const setting = settingsByKey.get(key);
  if (setting === undefined) throw new UnknownSettingError(key, origin, [...settingsByKey.keys()]);
  const readable = source !== 'file' && typeof value === 'string' ? setting.fromText(value) : value;
  const result = v.safeParse(setting.schema, readable);
  if (!result.success) {
    const shown = setting.secret
      ? ''
      : `, not ${(JSON.stringify(value) ?? String(value)).slice(0, LONGEST_SHOWN_VALUE)}`;
    throw new InvalidSettingError(key, origin, `${result.issues[0].message}${shown}`);
  }
  return { key, value: result.output, source, origin };
}

function fromEnvironment(env: ConfigInputs['env']): ResolvedSetting[] {
  const keys = new Map([...settingsByKey.keys()].map((key) => [environmentName(key), key]));
  return Object.entries(env).flatMap(([name, value]) => {
    // An empty variable is how many a shell and service file says "not set".
    if (!name.startsWith('ALICE_') || OTHER_VARIABLES.test(name) || value === undefined || value === '') return [];
    const key = keys.get(name);
    if (key === undefined) throw new UnknownSettingError(name, 'environment', [...keys.keys()]);
    return [check({ key, value, source: 'environment', origin: name })];
  });
}

function fromFlags(flags: Readonly<Record<string, unknown>>): ResolvedSetting[] {
  return Object.entries(flags)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => check({ key, value, source: 'flag', origin: 'command line' }));
}

/** The text of a file; undefined if it may be missing and is. */
function readText(path: string, mayBeMissing: boolean): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    if (mayBeMissing && (cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new ConfigFileError(path, `cannot read the configuration file: ${(cause as Error).message}`, { cause });
  }
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function fromFile(path: string, content: string): ResolvedSetting[] {
  if (content.length > LARGEST_FILE_BYTES) throw new ConfigFileError(path, 'is too large for a configuration file');
  let parsed: unknown;
  try {
    parsed = JSON.parse(content);
  } catch (cause) {
    throw new ConfigFileError(path, `is not JSON: ${(cause as Error).message}`, { cause });
  }
  if (!isObject(parsed))
    throw new ConfigFileError(path, 'expected one JSON object, such as {"log": {"level": "debug"}}');
  const isSection = (name: string): boolean => [...settingsByKey.keys()].some((key) => key.startsWith(`${name}.`));
  return Object.entries(parsed).flatMap(([name, value]) => {
    if (!isSection(name) || !isObject(value)) return [check({ key: name, value, source: 'file', origin: path })];
    return Object.entries(value).map(([inner, innerValue]) =>
      check({ key: `${name}.${inner}`, value: innerValue, source: 'file', origin: path }),
    );
  });
}

/**
 * Loads the configuration. Nothing is read from disk but the configuration file; nothing is written.
 * Throws {@link UnknownSettingError}, {@link InvalidSettingError} or {@link ConfigFileError}.
 */
export function loadConfig({ file, env, flags = {} }: ConfigInputs): LoadedConfig {
  const settings = new Map<string, ResolvedSetting>();
  const put = (entries: readonly ResolvedSetting[]) => {
    for (const entry of entries) settings.set(entry.key, entry);
  };
  put(
    [...settingsByKey].map(([key, { fallback }]) =>
      check({ key, value: fallback, source: 'default', origin: 'default' }),
    ),
  );
  const strong = [...fromEnvironment(env), ...fromFlags(flags)];
  put(strong);
  const named = file ?? (env.ALICE_CONFIG === '' ? undefined : env.ALICE_CONFIG);
  const path = named ?? join(String(settings.get('dir')?.value), CONFIG_FILE_NAME);
  const content = readText(path, named === undefined);
  if (content !== undefined) {
    const entries = fromFile(path, content);
    if (named === undefined && entries.some(({ key }) => key === 'dir')) {
      throw new InvalidSettingError(
        'dir',
        path,
        'a file inside the folder cannot move the folder: use --dir or ALICE_DIR',
      );
    }
    put(entries);
    put(strong);
  }

  const config: Record<string, unknown> = {};
  for (const { key, value } of settings.values()) {
    const [section = '', name] = key.split('.');
    if (name === undefined) config[section] = value;
    else config[section] = { ...(config[section] as object | undefined), [name]: value };
  }
  return {
    // Every key of settingsByKey is there, checked by its own schema.
    config: config as Config,
    settings: [...settings.values()],
    file: content === undefined ? undefined : path,
  };
}

/** Reads `--set KEY=VALUE` arguments into flags. Throws {@link InvalidAssignmentError}. */
export function parseAssignments(assignments: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    assignments.map((given) => {
      const at = given.indexOf('=');
      if (at < 1) throw new InvalidAssignmentError(given);
      return [given.slice(0, at).trim(), given.slice(at + 1)];
    }),
  );
}
