/** Rules on names and text: file names, module state, marks of unfinished work, and traces of one machine. */

import { basename } from 'node:path';
import type { SourceFile } from './source-file.ts';
import type { Violation } from './violation.ts';

/** Names that say nothing about what a file holds, and so collect everything. */
const emptyNames = /^(utils?|helpers?|misc|common)$/i;

/** Put together, so that this file does not carry the marks itself. */
const unfinished = new RegExp(
  `\\b(${['TO', 'FIX'].map((mark) => `${mark}${mark === 'TO' ? 'DO' : 'ME'}`).join('|')})\\b`,
);

/** Folders of one machine, which mean nothing on another. */
const machinePath = /(^|[\s"'`(=:])\/(work|root|home\/\w+|Users\/\w+)\//;

/** A package registry's address: which one is used is the business of the machine. */
const registryHost = /\bregistry\.[a-z0-9-]+\.(org|com|io|dev)\b/;

/** Violations in a file's name. */
export function checkFileName(path: string): Violation[] {
  const words = path.split('/');
  const file = basename(path).replace(/\..*$/, '');
  const bad = [...words.slice(0, -1), file].find((word) => emptyNames.test(word));
  return bad === undefined
    ? []
    : [{ path, line: 0, rule: 'file-name', message: `"${bad}" says nothing: name the file after what it holds` }];
}

/** Violations in any text file, line by line. */
export function checkText(path: string, text: string): Violation[] {
  const violations: Violation[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    const add = (rule: string, message: string) => violations.push({ path, line: index + 1, rule, message });
    if (unfinished.test(line)) add('unfinished', 'finish it, or file an issue and say what is missing in words');
    if (machinePath.test(line)) add('machine-path', 'names a folder of one machine: use a relative path');
    if (registryHost.test(line)) add('registry', "names a package registry's host");
  }
  return violations;
}

/**
 * Variables at the top of a shipped module: state that two users of the module would share without knowing. A file that
 * exports nothing is the entry of a process or thread, and its variables are that process's own.
 */
export function checkModuleState(file: SourceFile): Violation[] {
  if (!/^(node|kernels|corpus|roles|bootstrap)\//.test(file.path)) return [];
  if (!file.statements.some(({ type }) => type.startsWith('Export'))) return [];
  return file.statements.flatMap((statement) => {
    const declaration = statement.type === 'ExportNamedDeclaration' ? statement.declaration : statement;
    if (declaration?.type !== 'VariableDeclaration' || declaration.declare === true) return [];
    if (declaration.kind !== 'let' && declaration.kind !== 'var') return [];
    const message = 'a variable of the module is global state: put it into a class or pass it';
    return [{ path: file.path, line: file.lineAt(declaration.start), rule: 'module-state', message }];
  });
}
