/** Applies every rule of this folder to the files of a checkout. */

import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkLayers } from './layers.ts';
import { checkInstalledPackages, checkLockFile, checkManifest } from './packages.ts';
import { checkPurity } from './purity.ts';
import { SourceFile, UnparsableSourceError } from './source-file.ts';
import { checkFileName, checkModuleState, checkText } from './text.ts';
import type { Violation } from './violation.ts';

const isSource = (path: string): boolean => /\.[cm]?[jt]sx?$/.test(path);
const isText = (path: string): boolean =>
  isSource(path) || /\.(md|sh|json|yml|yaml|html|css|py)$/.test(path) || path === '.ci/run';

/** Data that others made, and texts that are generated from others' texts, are not ours to word. */
const isForeign = (path: string): boolean => /^test\/vectors\/|^THIRD_PARTY_NOTICES\.md$/.test(path);

/** Paths of the files that git tracks or would track, from the root, in order. */
function listFiles(root: string): string[] {
  const output = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  });
  return [...new Set(output.split('\0'))].filter((path) => path !== '' && existsSync(join(root, path))).sort();
}

/** Every violation in the checkout at `root`, by path and line. Throws if `root` is not inside a git checkout. */
export function checkRules(root: string): { violations: Violation[]; files: number } {
  const violations: Violation[] = [];
  const files = listFiles(root);
  for (const path of files) {
    violations.push(...checkFileName(path));
    if (!isText(path) || isForeign(path)) continue;
    const text = readFileSync(join(root, path), 'utf8');
    if (path === 'package-lock.json') {
      violations.push(...checkLockFile(path, text), ...checkInstalledPackages(root, path, text));
      continue;
    }
    if (path === 'package.json') violations.push(...checkManifest(path, text));
    violations.push(...checkText(path, text));
    if (!isSource(path)) continue;
    try {
      const file = new SourceFile(path, text);
      violations.push(...checkLayers(file), ...checkPurity(file), ...checkModuleState(file));
    } catch (error) {
      if (!(error instanceof UnparsableSourceError)) throw error;
      violations.push({ path, line: 0, rule: 'syntax', message: error.message });
    }
  }
  violations.sort((a, b) => (a.path === b.path ? a.line - b.line : a.path < b.path ? -1 : 1));
  return { violations, files: files.length };
}
