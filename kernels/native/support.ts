/** What the native backend can do on this machine. */
import { loadNativeLibrary, usableInstructionSets } from './library.ts';

/** Whether there is a library to compute with. */
export type NativeSupport =
  | {
      readonly usable: true;
      /** The one that engines take. */
      readonly instructionSet: string;
      /** All that are built and that the processor has, slowest first. */
      readonly instructionSets: readonly string[];
      /** Whether it has matrix products in bf16. */
      readonly bf16: boolean;
    }
  | {
      readonly usable: false;
      /** Why not, and what to do about it, on one line. */
      readonly reason: string;
    };

/** Loads the library, if there is one. Never throws: what the dynamic linker says is a reason as well. */
export function nativeSupport(): NativeSupport {
  try {
    const { isa, bf16 } = loadNativeLibrary();
    return { usable: true, instructionSet: isa, instructionSets: usableInstructionSets(), bf16 };
  } catch (error) {
    return { usable: false, reason: (error as Error).message.replaceAll(/\s+/g, ' ') };
  }
}
