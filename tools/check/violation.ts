/** One place in the repository that breaks a rule. */
export interface Violation {
  /** Path from the root of the repository, with forward slashes. */
  path: string;
  /** Line, counted from 1; 0 where the whole file is meant. */
  line: number;
  /** Short name of the rule. */
  rule: string;
  /** What is wrong and what to do instead, in one sentence. */
  message: string;
}

/** `path:line  rule  message`, as printed by `npm run check`. */
export function renderViolation({ path, line, rule, message }: Violation): string {
  return `${line > 0 ? `${path}:${line}` : path}  [${rule}] ${message}`;
}
