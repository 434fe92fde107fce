/** What a registration carries as its price; how it is found and checked is in `node/registration`. */
import type { Hash } from './hash.ts';

/** See the file comment. */
export interface RegistrationWork {
  /** Beacon that the work is for; 32 zero bytes where none is needed. */
  readonly challenge: Hash;
  /** The number that was found. */
  readonly solution: bigint;
  /** Hashes that finding it takes on average; 0 claims nothing. */
  readonly work: bigint;
}

/** No work, for networks on which registration is free. */
export const NO_WORK: RegistrationWork = { challenge: '00'.repeat(32) as Hash, solution: 0n, work: 0n };
