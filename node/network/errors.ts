/**
 * Everything that can go wrong between this node and another. Every class has a `code`; catch by code, not by message.
 */

/** Common ancestor of all network failures. */
export abstract class NetworkError extends Error {
  abstract readonly code: string;
  override readonly name: string = 'NetworkError';
}

/** An address to listen on is in use by another program. */
export class AddressInUseError extends NetworkError {
  static readonly code = 'ERR_ADDRESS_IN_USE';
  readonly code = AddressInUseError.code;
}

/** An address to listen on cannot be used for another reason (not ours, no permission, not TCP). */
export class ListenError extends NetworkError {
  static readonly code = 'ERR_LISTEN';
  readonly code = ListenError.code;
}

/** An option of the network makes no sense: a bad address, seed or name. */
export class InvalidNetworkOptionError extends NetworkError {
  static readonly code = 'ERR_INVALID_NETWORK_OPTION';
  readonly code = InvalidNetworkOptionError.code;
}

/** The network was stopped, or is not started yet. */
export class NetworkStoppedError extends NetworkError {
  static readonly code = 'ERR_NETWORK_STOPPED';
  readonly code = NetworkStoppedError.code;
}

/** Text is no peer id. */
export class InvalidPeerError extends NetworkError {
  static readonly code = 'ERR_INVALID_PEER';
  readonly code = InvalidPeerError.code;
}

/** Text is no CIDv1 with a sha2-256 hash. */
export class InvalidCidError extends NetworkError {
  static readonly code = 'ERR_INVALID_CID';
  readonly code = InvalidCidError.code;
}

/** The peer could not be reached. */
export class NoConnectionError extends NetworkError {
  static readonly code = 'ERR_NO_CONNECTION';
  readonly code = NoConnectionError.code;
}

/** The peer does not serve the protocol. */
export class UnsupportedProtocolError extends NetworkError {
  static readonly code = 'ERR_UNSUPPORTED_PROTOCOL';
  readonly code = UnsupportedProtocolError.code;
}

/** The peer closed or reset the stream before it had answered in full. */
export class StreamClosedError extends NetworkError {
  static readonly code = 'ERR_STREAM_CLOSED';
  readonly code = StreamClosedError.code;
}

/** The answer did not come in time. */
export class RequestTimeoutError extends NetworkError {
  static readonly code = 'ERR_REQUEST_TIMEOUT';
  readonly code = RequestTimeoutError.code;
}

/** The caller's signal ended the operation. */
export class RequestAbortedError extends NetworkError {
  static readonly code = 'ERR_REQUEST_ABORTED';
  readonly code = RequestAbortedError.code;
}

/** A request or an answer is over the protocol's limit. */
export class MessageTooLargeError extends NetworkError {
  static readonly code = 'ERR_MESSAGE_TOO_LARGE';
  readonly code = MessageTooLargeError.code;
}

/** The bytes on the stream are not what the protocol prescribes. */
export class MalformedMessageError extends NetworkError {
  static readonly code = 'ERR_MALFORMED_MESSAGE';
  readonly code = MalformedMessageError.code;
}

/** The peer refuses because we asked too often or too much at once; try again later or ask another. */
export class RateLimitedError extends NetworkError {
  static readonly code = 'ERR_RATE_LIMITED';
  readonly code = RateLimitedError.code;
}

/** The peer's handler failed. What failed is the peer's business and is not told. */
export class RemoteFailureError extends NetworkError {
  static readonly code = 'ERR_REMOTE_FAILURE';
  readonly code = RemoteFailureError.code;
}

/** No peer took our provider record. */
export class NotProvidedError extends NetworkError {
  static readonly code = 'ERR_NOT_PROVIDED';
  readonly code = NotProvidedError.code;
}
