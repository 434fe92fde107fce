/** A decoder with one fault of each kind, for the test of the fuzzer. The first byte of an input chooses. */
export const describe = 'faulty on purpose';

export const headBytes = 1;

export function seeds(): Uint8Array[] {
  return [Uint8Array.of(0, 1, 2, 3), Uint8Array.of(9, 9)];
}

export function allocationCap(): number {
  return 64 * 1024;
}

/** Keeps what was allocated from being optimized away. */
const kept: Uint8Array[] = [];

export function run(input: Uint8Array): string {
  const [first] = input;
  if (first === 255) throw new TypeError('a fault');
  if (first === 254) {
    kept[0] = new Uint8Array(1 << 20);
  }
  // No input changes what is asked here.
  while (first === 127) if (kept.length > 2) break;
  return first === 0 ? 'accepted' : 'ERR_OTHER';
}
