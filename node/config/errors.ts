/** What can be wrong with a configuration. Every message is one line that names the source, the key and what to do. */

/** A key that no setting has. */
export class UnknownSettingError extends Error {
  static readonly code = 'ERR_CONFIG_UNKNOWN_SETTING';
  readonly code = UnknownSettingError.code;
  override readonly name = 'UnknownSettingError';
  readonly key: string;
  readonly source: string;

  constructor(key: string, source: string, known: readonly string[]) {
    super(`${source}: there is no setting "${key}"; there are: ${known.join(', ')}`);
    this.key = key;
    this.source = source;
  }
}

/** A value that a setting cannot have. */
export class InvalidSettingError extends Error {
  static readonly code = 'ERR_CONFIG_INVALID_SETTING';
  readonly code = InvalidSettingError.code;
  override readonly name = 'InvalidSettingError';
  readonly key: string;
  readonly source: string;

  constructor(key: string, source: string, reason: string) {
    super(`${source}: ${key}: ${reason}`);
    this.key = key;
    this.source = source;
  }
}

/** A configuration file that cannot be read or is not one JSON object. */
export class ConfigFileError extends Error {
  static readonly code = 'ERR_CONFIG_FILE';
  readonly code = ConfigFileError.code;
  override readonly name = 'ConfigFileError';

  constructor(path: string, reason: string, options?: ErrorOptions) {
    super(`${path}: ${reason}`, options);
  }
}

/** A `--set` argument that is not KEY=VALUE. */
export class InvalidAssignmentError extends Error {
  static readonly code = 'ERR_CONFIG_ASSIGNMENT';
  readonly code = InvalidAssignmentError.code;
  override readonly name = 'InvalidAssignmentError';

  constructor(given: string) {
    super(`--set ${given}: expected KEY=VALUE, such as log.level=debug`);
  }
}
