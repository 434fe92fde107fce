/** The packages that are installed with Alice and run in it, with what their licences ask to be repeated. */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** One package that ships with an installation. */
export interface ShippedPackage {
  name: string;
  version: string;
  /** SPDX expression from the lock file. */
  licence: string;
  /** It is installed on some platforms only, so its files may be missing here. */
  platformOnly: boolean;
  /** Copyright lines of its licence file, else its author. */
  copyrights: readonly string[];
  /** Text of its licence file, if it has one and is installed everywhere. */
  licenceText: string | undefined;
  /** Text of its NOTICE file, which Apache-2.0 asks to be passed on. */
  noticeText: string | undefined;
}

/** Packages that name the systems they run on, and are installed on all that Alice runs on. */
const everyPlatform: ReadonlySet<string> = new Set(['node_modules/onnxruntime-node']);

interface LockedPackage {
  version?: string;
  license?: string;
  os?: unknown;
  dependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
  peerDependencies?: Record<string, string>;
  peerDependenciesMeta?: Record<string, { optional?: boolean }>;
}

type Locked = Readonly<Record<string, LockedPackage>>;

/** Where Node finds package `name` from the package at `from`: the nearest node_modules upwards. */
function resolveLocation(locked: Locked, from: string, name: string): string | undefined {
  let base: string | undefined = from;
  while (base !== undefined) {
    const location = base === '' ? `node_modules/${name}` : `${base}/node_modules/${name}`;
    if (location in locked) return location;
    const outer: number = base.lastIndexOf('/node_modules/');
    if (base === '') base = undefined;
    else base = outer < 0 ? '' : base.slice(0, outer);
  }
  return undefined;
}

/** Locations in the lock file that the project's own dependencies lead to; development tools are left out. */
function shippedLocations(locked: Locked): string[] {
  const found = new Set<string>();
  const queue = [''];
  for (let location = queue.pop(); location !== undefined; location = queue.pop()) {
    const entry = locked[location] ?? {};
    const optionalPeer = (name: string) => entry.peerDependenciesMeta?.[name]?.optional === true;
    const names = [
      ...Object.keys(entry.dependencies ?? {}),
      ...Object.keys(entry.optionalDependencies ?? {}),
      ...Object.keys(entry.peerDependencies ?? {}).filter((name) => !optionalPeer(name)),
    ];
    for (const name of names) {
      const target = resolveLocation(locked, location, name);
      if (target === undefined || found.has(target)) continue;
      found.add(target);
      queue.push(target);
    }
  }
  return [...found];
}

function readFirst(folder: string, pattern: RegExp): string | undefined {
  if (!existsSync(folder)) return undefined;
  const name = readdirSync(folder)
    .filter((entry) => pattern.test(entry))
    .sort()[0];
  return name === undefined ? undefined : readFileSync(join(folder, name), 'utf8').replaceAll('\r', '').trim();
}

const isCopyright = (line: string): boolean =>
  /^\W*(the \w+ license.*)?copyright\b.*(\d{4}|\(c\)|©)/i.test(line) &&
  !/\[yyyy\]|\{yyyy\}|copyright notice|copyright owner/i.test(line);

/** The copyright lines of a licence text, without duplicates. */
export function copyrightLines(text: string): string[] {
  const lines = text.split('\n').map((line) => line.trim().replace(/^[\s*#>-]+|[*\s]+$/g, ''));
  return [...new Set(lines.filter(isCopyright))];
}

function authorOf(folder: string): string[] {
  const path = join(folder, 'package.json');
  if (!existsSync(path)) return [];
  const { author, contributors } = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
  const person = author ?? (Array.isArray(contributors) ? contributors[0] : undefined);
  const name = typeof person === 'string' ? person : (person as { name?: string } | undefined)?.name;
  return name === undefined ? [] : [`by ${name.replace(/\s*[<(].*$/, '')}`];
}

/** Every package that ships, by name and version, once each. Reads package-lock.json and node_modules under `root`. */
export function shippedPackages(root: string): ShippedPackage[] {
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as { packages: Locked };
  const packages = shippedLocations(lock.packages).map((location): ShippedPackage => {
    const { version = '', license = 'unknown', os } = lock.packages[location] ?? {};
    const platformOnly = os !== undefined && !everyPlatform.has(location);
    const folder = join(root, location);
    const licenceText = platformOnly ? undefined : readFirst(folder, /^(licen[sc]e|copying)/i);
    const copyrights = licenceText === undefined ? [] : copyrightLines(licenceText);
    return {
      name: location.replace(/^.*node_modules\//, ''),
      version,
      licence: license,
      platformOnly,
      copyrights: copyrights.length > 0 || platformOnly ? copyrights : authorOf(folder),
      licenceText,
      noticeText: platformOnly ? undefined : readFirst(folder, /^notice/i),
    };
  });
  const unique = new Map(packages.map((entry) => [`${entry.name}@${entry.version}`, entry]));
  return [...unique.values()].sort((a, b) => (`${a.name}@${a.version}` < `${b.name}@${b.version}` ? -1 : 1));
}
