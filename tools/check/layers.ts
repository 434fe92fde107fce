/** Import rules: which part of the repository may import which (docs/ and ARCHITECTURE.md draw the same picture). */

import type { SourceFile } from './source-file.ts';
import type { Violation } from './violation.ts';

/** The parts that ship, and what each may import besides itself. */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  bin: ['bootstrap', 'roles', 'node', 'kernels', 'corpus'],
  bootstrap: ['roles', 'node', 'kernels', 'corpus'],
  roles: ['node', 'kernels', 'corpus'],
  node: [],
  kernels: [],
  corpus: [],
  web: [],
};

/** Parts that may import anything, and that no shipped part may import. */
const development: readonly string[] = ['test', 'bench', 'tools'];

const partOf = (path: string): string => path.split('/')[0] ?? '';

/** Violations of the layer order by one file. */
export function checkLayers(file: SourceFile): Violation[] {
  const part = partOf(file.path);
  if (development.includes(part)) return [];
  const violations: Violation[] = [];
  for (const { target, specifier, line } of file.imports()) {
    if (target === undefined) continue;
    const other = partOf(target);
    const add = (message: string) => violations.push({ path: file.path, line, rule: 'layers', message });
    if (target.startsWith('../')) add(`"${specifier}" leaves the repository`);
    else if (development.includes(other)) add(`${part}/ ships and must not import ${other}/ ("${specifier}")`);
    else if (other in mayImport && other !== part && !(mayImport[part] ?? []).includes(other)) {
      const allowed = mayImport[part]?.length
        ? `only ${mayImport[part].map((name) => `${name}/`).join(', ')}`
        : 'no other part';
      add(`${part}/ may import ${allowed}, not ${other}/ ("${specifier}"): move the code down or pass it in`);
    }
  }
  return violations;
}
