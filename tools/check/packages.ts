/** Rules on package.json and package-lock.json. */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Violation } from './violation.ts';

/**
 * Packages whose install script is known and ends at once (.npmrc). npm runs scripts of packages that the lock file says have
 * some, and of those with a binding.gyp: any other of either kind needs a decision first.
 */
const knownInstallScripts: ReadonlySet<string> = new Set(['onnxruntime-node']);

/** Licences under which a dependency may come: permissive ones. */
const permissive: ReadonlySet<string> = new Set([
  ...['0BSD', 'Apache-2.0', 'BlueOak-1.0.0', 'BSD-2-Clause', 'BSD-3-Clause', 'CC0-1.0', 'ISC', 'MIT', 'Unlicense'],
  // WordNet 3.x: MIT-like, with its notice.
  'WordNet',
]);

interface LockedPackage {
  version?: string;
  resolved?: string;
  integrity?: string;
  link?: boolean;
  license?: string;
  hasInstallScript?: boolean;
  optionalDependencies?: Record<string, string>;
}

/** Whether an SPDX expression can be satisfied with permissive licences: every AND part, any OR part. */
export function isPermissive(expression: string): boolean {
  const plain = expression.replace(/[()]/g, '');
  return plain.split(/\s+AND\s+/i).every((part) => part.split(/\s+OR\s+/i).some((name) => permissive.has(name.trim())));
}

/** Violations in package-lock.json (`text`): addresses, missing checksums, install scripts, licences. */
export function checkLockFile(path: string, text: string): Violation[] {
  const violations: Violation[] = [];
  const add = (rule: string, message: string) => violations.push({ path, line: 0, rule, message });
  const lock = JSON.parse(text) as { lockfileVersion?: number; packages?: Record<string, LockedPackage> };
  if (lock.lockfileVersion !== 3) add('lock-file', `lockfileVersion is ${lock.lockfileVersion}, expected 3`);
  const packages = lock.packages ?? {};
  for (const [location, entry] of Object.entries(packages)) {
    for (const optional of Object.keys(entry.optionalDependencies ?? {})) {
      // npm locks only what the registry served; "npm ci" then refuses the lock file on every platform.
      const locked = [`${location}/node_modules/${optional}`, `node_modules/${optional}`].some((at) => at in packages);
      if (!locked)
        add(
          'lock-file',
          `${location || 'package.json'} asks for ${optional}, which is not locked: "npm ci" would fail`,
        );
    }
    if (location === '' || entry.link === true) continue;
    const name = location.replace(/^.*node_modules\//, '');
    if (entry.resolved !== undefined) {
      add(
        'lock-file',
        `${location} has a "resolved" address: delete package-lock.json's addresses with "npm install" (.npmrc omits them)`,
      );
    }
    if (entry.integrity === undefined) add('lock-file', `${location} has no integrity checksum`);
    if (entry.hasInstallScript === true && !knownInstallScripts.has(name)) {
      add('install-script', `${location} runs a script when it is installed: it must be known, and harmless`);
    }
    if (entry.license === undefined || !isPermissive(entry.license)) {
      add(
        'licence',
        `${location} has the licence ${entry.license ?? '(none given)'}, which is not on the list of permissive ones`,
      );
    }
  }
  return violations;
}

/** Packages of the lock file (`text`) that are installed under `root` and would be compiled by npm. */
export function checkInstalledPackages(root: string, path: string, text: string): Violation[] {
  const { packages = {} } = JSON.parse(text) as { packages?: Record<string, LockedPackage> };
  return Object.keys(packages)
    .filter((location) => location !== '' && existsSync(join(root, location, 'binding.gyp')))
    .filter((location) => !knownInstallScripts.has(location.replace(/^.*node_modules\//, '')))
    .map((location) => ({
      path,
      line: 0,
      rule: 'install-script',
      message: `${location} has a binding.gyp, which npm compiles when it is installed`,
    }));
}

/** Violations in package.json (`text`): every dependency has one exact version. */
export function checkManifest(path: string, text: string): Violation[] {
  const manifest = JSON.parse(text) as Record<string, unknown>;
  return ['dependencies', 'devDependencies', 'optionalDependencies'].flatMap((group) =>
    Object.entries((manifest[group] ?? {}) as Record<string, string>)
      .filter(([, version]) => !/^(npm:.+@)?\d+\.\d+\.\d+(-[\w.]+)?$/.test(version))
      .map(([name, version]) => ({
        path,
        line: 0,
        rule: 'exact-version',
        message: `${group}: ${name} has the range "${version}"; install it with --save-exact`,
      })),
  );
}
