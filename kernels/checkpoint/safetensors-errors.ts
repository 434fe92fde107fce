/**
 * What can be wrong with safetensors files and Hugging Face folders. All share {@link ModelFolderError}; `code` says
 * which.
 */

/** Base of all failures to read or write a model in a foreign format. */
export abstract class ModelFolderError extends Error {
  abstract readonly code: string;
}

/** The declared header is longer than the format allows. */
export class SafetensorsHeaderTooLargeError extends ModelFolderError {
  static readonly code = 'ERR_SAFETENSORS_HEADER_TOO_LARGE';
  readonly code = SafetensorsHeaderTooLargeError.code;
  override readonly name = 'SafetensorsHeaderTooLargeError';
}

/** The header is not the JSON that the format describes. */
export class SafetensorsHeaderError extends ModelFolderError {
  static readonly code = 'ERR_SAFETENSORS_HEADER';
  readonly code = SafetensorsHeaderError.code;
  override readonly name = 'SafetensorsHeaderError';
}

/** The file ends before its header or its data do. */
export class SafetensorsTruncatedError extends ModelFolderError {
  static readonly code = 'ERR_SAFETENSORS_TRUNCATED';
  readonly code = SafetensorsTruncatedError.code;
  override readonly name = 'SafetensorsTruncatedError';
}

/** Offsets overlap, leave bytes that belong to no tensor, or do not fit dtype and shape. */
export class SafetensorsOffsetsError extends ModelFolderError {
  static readonly code = 'ERR_SAFETENSORS_OFFSETS';
  readonly code = SafetensorsOffsetsError.code;
  override readonly name = 'SafetensorsOffsetsError';
}

/** A dtype that the format does not have, or from which no weights are read. */
export class SafetensorsDtypeError extends ModelFolderError {
  static readonly code = 'ERR_SAFETENSORS_DTYPE';
  readonly code = SafetensorsDtypeError.code;
  override readonly name = 'SafetensorsDtypeError';
}

/** A tensor has another shape than the model's. */
export class TensorShapeError extends ModelFolderError {
  static readonly code = 'ERR_TENSOR_SHAPE';
  readonly code = TensorShapeError.code;
  override readonly name = 'TensorShapeError';
}

/** A tensor of the model is not there. */
export class MissingTensorError extends ModelFolderError {
  static readonly code = 'ERR_TENSOR_MISSING';
  readonly code = MissingTensorError.code;
  override readonly name = 'MissingTensorError';
}

/** A tensor is there that the model does not have. */
export class ExtraTensorError extends ModelFolderError {
  static readonly code = 'ERR_TENSOR_EXTRA';
  readonly code = ExtraTensorError.code;
  override readonly name = 'ExtraTensorError';
}

/** A weight is NaN or infinite. */
export class NonFiniteTensorError extends ModelFolderError {
  static readonly code = 'ERR_TENSOR_NON_FINITE';
  readonly code = NonFiniteTensorError.code;
  override readonly name = 'NonFiniteTensorError';
}

/** The weights do not have the model root that the file claims for them: damaged or changed. */
export class ModelRootMismatchError extends ModelFolderError {
  static readonly code = 'ERR_MODEL_ROOT_MISMATCH';
  readonly code = ModelRootMismatchError.code;
  override readonly name = 'ModelRootMismatchError';
}

/** `config.json` is no configuration of a model that Alice can hold. */
export class ModelConfigError extends ModelFolderError {
  static readonly code = 'ERR_MODEL_CONFIG';
  readonly code = ModelConfigError.code;
  override readonly name = 'ModelConfigError';
}

/** `model.safetensors.index.json` is malformed, or contradicts the files beside it. */
export class ModelIndexError extends ModelFolderError {
  static readonly code = 'ERR_MODEL_INDEX';
  readonly code = ModelIndexError.code;
  override readonly name = 'ModelIndexError';
}

/** The place to write to is taken, or cannot hold the model. */
export class ModelTargetError extends ModelFolderError {
  static readonly code = 'ERR_MODEL_TARGET';
  readonly code = ModelTargetError.code;
  override readonly name = 'ModelTargetError';
}
