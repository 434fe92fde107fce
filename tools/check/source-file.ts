/** A parsed TypeScript file, with what the rules ask for: imports, comments, and a walk over its syntax tree. */

import { posix } from 'node:path';
import { type Comment, type Node, parseSync, visitorKeys } from 'oxc-parser';

/** One import of a module, in any form: `import`, `export from`, `import()`, `typeof import()`, `new URL(..., import.meta.url)`. */
export interface ModuleReference {
  /** As written. */
  specifier: string;
  /** Path from the repository's root for a relative specifier; undefined for a package or built-in module. */
  target: string | undefined;
  /** It is gone when the types are stripped: nothing of the module runs. */
  typeOnly: boolean;
  /** Names imported, `default`, or `*`; empty for an import for its effects only. */
  names: readonly string[];
  line: number;
}

/** A node of the syntax tree together with the nodes around it, innermost last. */
export type VisitNode = (node: Node, ancestors: readonly Node[]) => void;

/** The file's text cannot be parsed. */
export class UnparsableSourceError extends Error {
  static readonly code = 'ERR_UNPARSABLE_SOURCE';
  readonly code = UnparsableSourceError.code;

  constructor(path: string, reason: string) {
    super(`${path}: ${reason}`);
    this.name = 'UnparsableSourceError';
  }
}

const isNode = (value: unknown): value is Node => typeof value === 'object' && value !== null && 'type' in value;

const nameOf = (node: Node): string =>
  node.type === 'Identifier' ? node.name : node.type === 'Literal' ? String(node.value) : '*';

/** One TypeScript or JavaScript source file. Throws {@link UnparsableSourceError}. */
export class SourceFile {
  readonly path: string;
  readonly text: string;
  readonly comments: readonly Comment[];
  readonly #program: Node & { type: 'Program' };
  readonly #lineStarts: number[] = [0];

  constructor(path: string, text: string) {
    const { program, comments, errors } = parseSync(path, text);
    const fault = errors.find(({ severity }) => severity === 'Error');
    if (fault !== undefined) throw new UnparsableSourceError(path, fault.message);
    this.path = path;
    this.text = text;
    this.comments = comments;
    this.#program = program as Node & { type: 'Program' };
    for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) this.#lineStarts.push(at + 1);
  }

  /** The statements at the top of the module. */
  get statements(): readonly Node[] {
    return this.#program.body as Node[];
  }

  /** The line, from 1, of an offset into the text. */
  lineAt(offset: number): number {
    let low = 0;
    let high = this.#lineStarts.length;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if ((this.#lineStarts[middle] ?? 0) <= offset) low = middle;
      else high = middle;
    }
    return low + 1;
  }

  /** Calls `visit` for every node, parents before children. */
  walk(visit: VisitNode): void {
    const ancestors: Node[] = [];
    const step = (node: Node): void => {
      visit(node, ancestors);
      ancestors.push(node);
      for (const key of visitorKeys[node.type] ?? []) {
        const child: unknown = (node as unknown as Record<string, unknown>)[key];
        for (const item of Array.isArray(child) ? child : [child]) if (isNode(item)) step(item);
      }
      ancestors.pop();
    };
    step(this.#program);
  }

  /** Every module that this file names, in the order of the text. */
  imports(): ModuleReference[] {
    const found: ModuleReference[] = [];
    const add = (source: Node | null | undefined, at: Node, typeOnly: boolean, names: string[]): void => {
      if (source?.type !== 'Literal' || typeof source.value !== 'string') return;
      const specifier = source.value;
      const target = specifier.startsWith('.') ? posix.join(posix.dirname(this.path), specifier) : undefined;
      found.push({ specifier, target, typeOnly, names, line: this.lineAt(at.start) });
    };
    this.walk((node) => {
      if (node.type === 'ImportDeclaration') {
        const kept = node.specifiers.filter((item) => !(item.type === 'ImportSpecifier' && item.importKind === 'type'));
        const erased = node.importKind === 'type' || (node.specifiers.length > 0 && kept.length === 0);
        const names = kept.map((item) =>
          item.type === 'ImportSpecifier'
            ? nameOf(item.imported)
            : item.type === 'ImportDefaultSpecifier'
              ? 'default'
              : '*',
        );
        add(node.source, node, erased, names);
      } else if (node.type === 'ExportNamedDeclaration') {
        const names = node.specifiers.map((item) => nameOf(item.local));
        add(node.source, node, node.exportKind === 'type', names);
      } else if (node.type === 'ExportAllDeclaration') {
        add(node.source, node, node.exportKind === 'type', ['*']);
      } else if (node.type === 'ImportExpression') {
        add(node.source, node, false, ['*']);
      } else if (node.type === 'TSImportType') {
        add(node.source, node, true, ['*']);
      } else if (node.type === 'NewExpression' && node.callee.type === 'Identifier' && node.callee.name === 'URL') {
        const [path, base] = node.arguments;
        const besideThisFile = base?.type === 'MemberExpression' && base.object.type === 'MetaProperty';
        // The entry of a worker or a child process, named so that a bundler finds it too.
        if (besideThisFile && path?.type === 'Literal' && /\.[cm]?[jt]s$/.test(String(path.value)))
          add(path, node, false, ['*']);
      }
    });
    return found;
  }
}
