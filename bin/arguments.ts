/**
 * Readers for values on the command line; each refuses what it cannot read with a line that says what it wants.
 */
import { InvalidArgumentError } from 'commander';

/** Whole number within bounds. */
export function wholeNumber(low: number, high: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < low || value > high) {
      throw new InvalidArgumentError(`expected a whole number from ${low} to ${high}.`);
    }
    return value;
  };
}

/** Gathers a repeatable or variadic option. */
export function collect(text: string, earlier: readonly string[] | undefined): string[] {
  return [...(earlier ?? []), text];
}
