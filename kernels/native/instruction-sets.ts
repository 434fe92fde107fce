/** The instruction sets that the native backend is compiled for, and where the libraries lie. */
import { fileURLToPath } from 'node:url';

/** One library. */
export interface InstructionSet {
  /** As the addon's `supported()` names it. */
  readonly name: string;
  /** Flags of g++ and clang++. */
  readonly flags: readonly string[];
}

const AVX2 = ['-mavx2', '-mfma', '-mbmi', '-mbmi2', '-mf16c', '-mlzcnt', '-mpopcnt'];
const AVX512 = [
  ...AVX2,
  ...['-mavx512f', '-mavx512bw', '-mavx512dq', '-mavx512vl', '-mavx512cd', '-mprefer-vector-width=512'],
];

/** Slowest first. The first runs on every processor of the architecture and says which others would. */
export function instructionSets(architecture: string): readonly InstructionSet[] {
  const portable = { name: 'portable', flags: [] };
  if (architecture !== 'x64') return [portable];
  return [
    portable,
    { name: 'avx2', flags: AVX2 },
    { name: 'avx512', flags: AVX512 },
    { name: 'avx512bf16', flags: [...AVX512, '-mavx512bf16'] },
  ];
}

/** Folder of the built libraries; git ignores it. */
export const builtFolder: string = fileURLToPath(new URL('./built/', import.meta.url));

/** File of the library for an instruction set. */
export function libraryName(instructionSet: string): string {
  return `alice-${instructionSet}.node`;
}
