/** Compiles the hot loops. The same source and compiler give the same bytes on every machine. */
import { readFile } from 'node:fs/promises';
import asc from 'assemblyscript/asc';

const SOURCE = 'hot-loops.ts';

/** The compiler's text, when it refuses the source. */
class CompilationError extends Error {
  static readonly code = 'ERR_COMPILATION';
  readonly code = CompilationError.code;
  override readonly name = 'CompilationError';
}

/** Compiles kernels/wasm/assembly/hot-loops.ts and returns the module. Takes some seconds. */
export async function buildHotLoops(): Promise<Uint8Array> {
  const source = await readFile(new URL(`../../kernels/wasm/assembly/${SOURCE}`, import.meta.url), 'utf8');
  const written = new Map<string, string | Uint8Array>();
  const flags = ['--runtime', 'stub', '--importMemory', '--noExportMemory', '--enable', 'simd', '--noAssert', '-O3'];
  const { error, stderr } = await asc.main([SOURCE, '--outFile', 'out.wasm', ...flags], {
    readFile: (name) => (name === SOURCE ? source : null),
    writeFile: (name, contents) => {
      written.set(name, contents);
    },
    listFiles: () => [],
  });
  const binary = written.get('out.wasm');
  if (error !== null || !(binary instanceof Uint8Array))
    throw new CompilationError(stderr.toString(), { cause: error });
  return binary;
}

/** The file that carries the module. */
export function renderBinary(binary: Uint8Array): string {
  const lines =
    Buffer.from(binary)
      .toString('base64')
      .match(/.{1,100}/g) ?? [];
  return [
    '/** What assembly/hot-loops.ts compiles to, made by `npm run wasm`; a test compiles it again and compares. */',
    '',
    '/** The WebAssembly module in base64. */',
    'export const HOT_LOOPS_BASE64 = [',
    ...lines.map((line) => `  '${line}',`),
    "].join('');",
    '',
  ].join('\n');
}
