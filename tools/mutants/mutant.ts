/** A fault put into the code on purpose. */

/** One change of one file: `find` must occur exactly once. */
export interface Mutant {
  readonly name: string;
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}
