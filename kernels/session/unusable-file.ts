/** Which failures to read a state mean that it has to come from elsewhere. */
import { TensorFileError } from '../checkpoint/errors.ts';
import { NonFiniteError } from '../engine/engine.ts';

/** True when a file cannot give what it should: it is not there, damaged, or another model's. */
export function isUnusableFile(error: unknown): boolean {
  if (error instanceof TensorFileError || error instanceof NonFiniteError) return true;
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}
