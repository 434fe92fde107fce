/** The instruction sets that the native backend is compiled for, and where the libraries lie. */
import { fileURLToPath } from 'node:url';

/** One library. */
export interface InstructionSet {
  /** As the addon's `supported()` names it. */
  readonly name: string;
  /** Flags of g++ and clang++. */
  readonly flags: readonly string[];
  /** Computes in software what the processor need not have: for tests, and never chosen by itself. */
  readonly emulated?: true;
}

const AVX2 = ['-mavx2', '-mfma', '-mbmi', '-mbmi2', '-mf16c', '-mlzcnt', '-mpopcnt'];
const AVX512 = [
  ...AVX2,
  ...['-mavx512f', '-mavx512bw', '-mavx512dq', '-mavx512vl', '-mavx512cd', '-mprefer-vector-width=512'],
];

const AVX512BF16 = [...AVX512, '-mavx512bf16'];

/** Slowest first. The first runs on every processor of the architecture and says which others would. */
export function instructionSets(architecture: string): readonly InstructionSet[] {
  const portable = { name: 'portable', flags: [] };
  if (architecture === 'arm64') return [portable, { name: 'armbf16', flags: ['-march=armv8.2-a+bf16'] }];
  if (architecture !== 'x64') return [portable];
  return [
    portable,
    { name: 'avx2', flags: AVX2 },
    { name: 'avx512', flags: AVX512 },
    { name: 'avx512bf16', flags: AVX512BF16 },
    { name: 'amx-emulated', flags: [...AVX512BF16, '-DALICE_EMULATE_AMX'], emulated: true },
    { name: 'amx', flags: [...AVX512BF16, '-mamx-tile', '-mamx-bf16'] },
  ];
}

/** Folder of the built libraries, which git ignores, or the one that the environment names. */
export const builtFolder: string =
  process.env.ALICE_NATIVE_LIBRARIES ?? fileURLToPath(new URL('./built/', import.meta.url));

/** File of the library for an instruction set. */
export function libraryName(instructionSet: string): string {
  return `alice-${instructionSet}.node`;
}
