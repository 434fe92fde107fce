/**
 * The pure cores: code whose result depends on its arguments alone, on every machine, because all validators must
 * compute the same bytes. No clock, timer, randomness, I/O, locale, or floating-point function that IEEE 754 leaves to
 * the implementation.
 */

import type { Node } from 'oxc-parser';
import type { SourceFile } from './source-file.ts';
import type { Violation } from './violation.ts';

/** Directories under the rule. node/chain holds the formats that the cores compute with. */
const pureDirectories: readonly string[] = ['node/consensus/core/', 'node/ledger/', 'node/chain/'];

/** Files in them that are not, and that the cores therefore must not import. */
const impureFiles: ReadonlySet<string> = new Set(['node/chain/network-file.ts']);

const isPure = (path: string): boolean =>
  pureDirectories.some((directory) => path.startsWith(directory)) && !impureFiles.has(path);

/** Globals that reach outside, with the reason. */
const impureGlobals: Readonly<Record<string, string>> = {
  Date: 'reads the clock; take the time as an argument',
  performance: 'reads the clock; take the time as an argument',
  setTimeout: 'is a timer; return an effect that asks for one',
  setInterval: 'is a timer; return an effect that asks for one',
  setImmediate: 'is a timer; return an effect that asks for one',
  queueMicrotask: 'defers work; return an effect instead',
  crypto: 'is a source of randomness; take the bytes as an argument',
  process: 'reads the environment; take the value as an argument',
  console: 'is output; return an effect that asks for it',
  fetch: 'is I/O; return an effect that asks for it',
  WebSocket: 'is I/O; return an effect that asks for it',
  globalThis: 'reaches every other global',
  eval: 'runs text',
  Function: 'runs text',
  require: 'loads modules at run time',
  Intl: 'depends on the locale of the machine',
  WeakRef: 'depends on garbage collection',
  FinalizationRegistry: 'depends on garbage collection',
};

/** Functions of Math whose result IEEE 754 fixes to the bit. */
const exactMath: ReadonlySet<string> = new Set([
  ...['abs', 'ceil', 'clz32', 'floor', 'fround', 'imul', 'max', 'min', 'round', 'sign', 'sqrt', 'trunc'],
  ...['E', 'LN10', 'LN2', 'LOG10E', 'LOG2E', 'PI', 'SQRT1_2', 'SQRT2'],
]);

/** Methods whose result depends on the locale of the machine. */
const localeMethods: ReadonlySet<string> = new Set([
  ...[
    'localeCompare',
    'toLocaleString',
    'toLocaleLowerCase',
    'toLocaleUpperCase',
    'toLocaleDateString',
    'toLocaleTimeString',
  ],
]);

/** Built-in modules without a clock, randomness or I/O. */
const pureBuiltins: ReadonlySet<string> = new Set(['node:assert', 'node:buffer', 'node:crypto', 'node:util']);

/** Names of node:crypto that are not functions of their arguments. */
const impureCrypto = /^(\*|default|random.*|generate.*|getRandom.*|webcrypto|createECDH|createDiffieHellman.*)$/;

const isTypeNode = (node: Node): boolean =>
  /^TS(Type|Interface|.*Keyword$|Array|Union|Function|Mapped|Tuple|Literal|Conditional|Indexed)/.test(node.type);

/** Whether an identifier is a use of a variable, rather than a property's or a declaration's name. */
function isReference(node: Node, parent: Node | undefined): boolean {
  if (parent === undefined) return false;
  if (parent.type === 'MemberExpression') return parent.object === node || parent.computed;
  if (parent.type === 'Property') return parent.value === node || parent.computed;
  if (parent.type === 'PropertyDefinition') return parent.value === node || parent.computed;
  if (parent.type === 'MethodDefinition') return parent.computed;
  return ![
    'ImportSpecifier',
    'ImportDefaultSpecifier',
    'ExportSpecifier',
    'LabeledStatement',
    'BreakStatement',
  ].includes(parent.type);
}

/** The name of the property that a member expression reads, where the text tells it. */
function propertyName(node: Node & { type: 'MemberExpression' }): string | undefined {
  const { property } = node as { property: Node };
  if (!node.computed) return property.type === 'Identifier' ? property.name : undefined;
  return property.type === 'Literal' ? String(property.value) : undefined;
}

/** Whether the text shows an operand to be a bigint: then the other is one too, and the operation exact. */
function isBigInt(node: Node): boolean {
  return (
    (node.type === 'Literal' && typeof node.value === 'bigint') ||
    (node.type === 'CallExpression' && node.callee.type === 'Identifier' && node.callee.name === 'BigInt')
  );
}

/** Whether both operands are written out and the power is an integer that a double holds exactly, as in `2 ** 32`. */
function isExactConstant(left: Node, right: Node): boolean {
  if (left.type !== 'Literal' || right.type !== 'Literal') return false;
  const [base, exponent] = [left.value, right.value];
  return (
    Number.isInteger(base) &&
    Number.isInteger(exponent) &&
    Number(exponent) >= 0 &&
    BigInt(Number(base)) ** BigInt(Number(exponent)) <= BigInt(Number.MAX_SAFE_INTEGER)
  );
}

/** Violations by one file; none for a file outside the pure directories. */
export function checkPurity(file: SourceFile): Violation[] {
  if (!isPure(file.path)) return [];
  const violations: Violation[] = [];
  const add = (line: number, message: string) => violations.push({ path: file.path, line, rule: 'purity', message });

  for (const { specifier, target, typeOnly, names, line } of file.imports()) {
    if (typeOnly) continue;
    if (target !== undefined && !isPure(target)) {
      add(
        line,
        `imports "${specifier}", which is outside the pure parts: import its types only, or take it as an argument`,
      );
    }
    const builtin = specifier.startsWith('node:') ? specifier.split('/')[0] : undefined;
    if (builtin !== undefined && !pureBuiltins.has(builtin)) add(line, `imports ${specifier}, which reaches outside`);
    if (builtin === 'node:crypto') {
      for (const name of names)
        if (impureCrypto.test(name)) add(line, `imports ${name} of ${specifier}: name pure functions only`);
    }
  }

  file.walk((node, ancestors) => {
    const line = file.lineAt(node.start);
    const parent = ancestors.at(-1);
    if (node.type === 'Identifier' && Object.hasOwn(impureGlobals, node.name)) {
      if (isReference(node, parent) && !ancestors.some(isTypeNode))
        add(line, `${node.name} ${impureGlobals[node.name]}`);
    } else if (node.type === 'Identifier' && node.name === 'Math' && isReference(node, parent)) {
      const name = parent?.type === 'MemberExpression' && parent.object === node ? propertyName(parent) : undefined;
      if (name === undefined) add(line, 'Math is used as a value: name the function');
      else if (!exactMath.has(name)) add(line, `Math.${name} may differ between machines or calls: use integers`);
    } else if (node.type === 'MemberExpression') {
      const name = propertyName(node);
      if (name !== undefined && localeMethods.has(name)) add(line, `${name} depends on the locale of the machine`);
    } else if (
      (node.type === 'BinaryExpression' &&
        node.operator === '**' &&
        ![node.left, node.right].some(isBigInt) &&
        !isExactConstant(node.left, node.right)) ||
      (node.type === 'AssignmentExpression' && node.operator === '**=' && !isBigInt(node.right))
    ) {
      add(line, '** on numbers may differ between machines: use bigint with a bigint literal or BigInt() on one side');
    }
  });
  return violations;
}
