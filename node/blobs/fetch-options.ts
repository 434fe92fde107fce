/**
 * What a caller can say about a download, and what it is told.
 */
import type { PeerIdText } from '../network/interface.ts';

/** How far a download is. */
export interface FetchProgress {
  readonly cid: string;
  readonly bytes: number;
  readonly totalBytes: number;
  readonly chunks: number;
  readonly totalChunks: number;
  /** Providers being pulled from now. */
  readonly providers: number;
}

export interface FetchOptions {
  /** Peers that probably have the blob: asked first. */
  readonly hints?: readonly PeerIdText[];
  /** CIDs of other blobs whose providers probably have this one too. */
  readonly providersOf?: readonly string[];
  /** A larger blob is refused as soon as its manifest is known. Default 256 MiB. */
  readonly maxBytes?: number;
  readonly signal?: AbortSignal;
  /** Time limit. Default: none but the signal. */
  readonly timeoutMs?: number;
  /** Announce this peer as a provider as soon as the manifest is known, so that downloaders help each other. */
  readonly announce?: boolean;
  readonly onProgress?: (progress: FetchProgress) => void;
}

/** Default of {@link FetchOptions.maxBytes}. */
export const DEFAULT_MAX_BYTES = 256 * 1024 * 1024;
