/** Shows a configuration to people and programs. */

import type { LoadedConfig, SettingSource } from './load.ts';
import type { Setting } from './setting.ts';
import { environmentName, settingsByKey } from './settings.ts';

/** What stands in the place of a secret that is set. */
const REDACTED = '[set, not shown]';

/** One setting as `alice config show --json` prints it. */
export interface ShownSetting {
  value: unknown;
  source: SettingSource;
  origin: string;
  env: string;
  unit: string;
  description: string;
}

const isEmpty = (value: unknown): boolean => value === '' || (Array.isArray(value) && value.length === 0);

/**
 * Every setting by key, with its value, where it comes from, and what it means. Secrets are replaced. `known` are the
 * descriptions, those of settings.ts if not given.
 */
export function describeConfig(
  { settings }: LoadedConfig,
  known: ReadonlyMap<string, Setting<unknown>> = settingsByKey,
): Record<string, ShownSetting> {
  return Object.fromEntries(
    settings.map(({ key, value, source, origin }) => {
      const { description = '', unit = '', secret = false } = known.get(key) ?? {};
      const shown = secret && !isEmpty(value) ? REDACTED : value;
      return [key, { value: shown, source, origin, env: environmentName(key), unit, description }];
    }),
  );
}

/** The same as text: key, value, unit and origin in columns, each with its description above. */
export function renderConfig(loaded: LoadedConfig): string {
  const rows = Object.entries(describeConfig(loaded)).map(([key, { value, origin, unit, description }]) => {
    const setting = settingsByKey.get(key);
    const plain = typeof value === 'string' ? value : (setting?.toText(value) ?? '');
    const shown = plain === '' ? '(none)' : unit === '' ? plain : `${plain} ${unit}`;
    return { key, shown, origin, description };
  });
  const width = (of: (row: (typeof rows)[number]) => string) => Math.max(0, ...rows.map((row) => of(row).length));
  const [keyWidth, valueWidth] = [width(({ key }) => key), width(({ shown }) => shown)];
  const lines = rows.map(
    ({ key, shown, origin, description }) =>
      `# ${description}\n${key.padEnd(keyWidth)}  ${shown.padEnd(valueWidth)}  ${origin}\n`,
  );
  return `${lines.join('')}# file: ${loaded.file ?? 'none'}\n`;
}
