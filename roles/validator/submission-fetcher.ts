/**
 * Fetching the submissions of a round: all at once, none of them for so long that it takes from the time for scoring.
 *
 * What nobody serves shows by nothing coming. A download is given up when no chunk came for a share of the limit: a small
 * one for authors without accepted work while others have some, and a smaller one where the author's submission was given up
 * before. So an author who reveals what is not there costs everybody a short while once, and next to nothing afterwards,
 * and names that are always new cost no more than that short while. It begins when a submission is first asked for, ahead of
 * scoring: what nobody sent during the reveals hardly delays the scores.
 */
import type { EncodedSubmission } from '../../kernels/session/model-session.ts';
import { BlobTooLargeError, NotABlobError } from '../../node/blobs/errors.ts';
import type { BlobExchange } from '../../node/blobs/exchange.ts';
import type { AccountId } from '../../node/chain/account.ts';
import type { SubmissionRecord } from '../../node/ledger/round-records.ts';
import type { Logger } from '../../node/log/logger.ts';
import type { PeerIdText } from '../../node/network/interface.ts';

/** Bytes of a submission, with its author as the ledger names it. */
export type FetchedSubmission = EncodedSubmission & { readonly account: AccountId };

/** Share of the limit in which something has to come. */
const STALL_SHARE = 1 / 4;

/** The same for authors that are not known to do work. */
const STRANGER_STALL_SHARE = 1 / 8;

/** The same for authors whose last submission was given up. */
const DISTRUSTED_STALL_SHARE = 1 / 16;

/** Share that is left to a submission for which nothing came ahead of time: its author may have been late by a moment. */
const LAST_STALL_SHARE = 1 / 32;

/** Authors remembered; the one remembered for longest is forgotten. */
const MAX_DISTRUSTED = 1024;

export interface FetchAllOptions {
  /** Longest download of one. */
  readonly limitMs: number;
  /** Authors may not be ready yet: what does not come is not held against them. */
  readonly early?: boolean;
  /** Accounts with accepted work; while there are none, nobody is a stranger. */
  readonly proven: ReadonlySet<AccountId>;
  readonly signal: AbortSignal;
}

/** True for an author without accepted work, while others have some. */
function isStranger(account: AccountId, proven: ReadonlySet<AccountId>): boolean {
  return proven.size > 0 && !proven.has(account);
}

export class SubmissionFetcher {
  readonly #blobs: Pick<BlobExchange, 'fetch'>;
  readonly #log: Logger;
  readonly #maxBytes: number;
  readonly #now: () => number;
  readonly #distrusted = new Set<AccountId>();
  /** When each submission of the present round was first asked for, by CID; in milliseconds. */
  #askedMs: ReadonlyMap<string, number> = new Map();

  /**
   * @param maxBytes - of a submission that is fetched at all
   * @param now - time in milliseconds
   */
  constructor(blobs: Pick<BlobExchange, 'fetch'>, log: Logger, maxBytes: number, now = () => performance.now()) {
    this.#blobs = blobs;
    this.#log = log;
    this.#maxBytes = maxBytes;
    this.#now = now;
  }

  /** Authors whose last submission was given up. */
  get distrusted(): ReadonlySet<AccountId> {
    return this.#distrusted;
  }

  /**
   * Bytes of each revealed submission, or undefined where nobody delivered them in time. Rejects when the signal fires
   * first. Where none came at all, it is this peer that nobody reaches, and no author is held to blame.
   */
  async fetchAll(
    submissions: readonly SubmissionRecord[],
    options: FetchAllOptions,
  ): Promise<(FetchedSubmission | undefined)[]> {
    this.#noteAsked(submissions);
    const failed: AccountId[] = [];
    const fetched = await Promise.all(submissions.map((submission) => this.#fetch(submission, options, failed)));
    if (options.early !== true && fetched.some((submission) => submission !== undefined)) {
      for (const account of failed) this.#distrust(account);
    }
    return fetched;
  }

  /** @param failed - takes the authors of what was not there to be had */
  async #fetch(
    { account, reveal }: SubmissionRecord,
    { limitMs, proven, signal }: FetchAllOptions,
    failed: AccountId[],
  ): Promise<FetchedSubmission | undefined> {
    if (reveal === undefined || reveal.sizeBytes > this.#maxBytes) return undefined;
    const { cid, sizeBytes, provider } = reveal;
    const given = new AbortController();
    const give = (what: string) => () => given.abort(new Error(what));
    const stallMs = limitMs * this.#stallShare(account, proven);
    const stalls = (ms: number) => setTimeout(give('nobody sends it'), ms);
    const waitedMs = this.#now() - (this.#askedMs.get(cid) ?? this.#now());
    let stall = stalls(
      isStranger(account, proven) ? Math.max(stallMs - waitedMs, limitMs * LAST_STALL_SHARE) : stallMs,
    );
    const limit = setTimeout(give('it takes too long'), limitMs);
    try {
      const bytes = await this.#blobs.fetch(cid, {
        hints: [provider as PeerIdText],
        maxBytes: sizeBytes,
        signal: AbortSignal.any([signal, given.signal]),
        onProgress: () => {
          clearTimeout(stall);
          stall = stalls(stallMs);
        },
      });
      this.#distrusted.delete(account);
      return { account, bytes };
    } catch (error) {
      if (signal.aborted) throw error;
      // What our own disk refuses is not the author's doing.
      if (given.signal.aborted || error instanceof NotABlobError || error instanceof BlobTooLargeError) {
        failed.push(account);
      }
      const reason = given.signal.aborted ? given.signal.reason : error;
      this.#log.warn({ account, cid, error: (reason as Error).message }, 'a submission cannot be fetched');
      return undefined;
    } finally {
      clearTimeout(stall);
      clearTimeout(limit);
    }
  }

  #stallShare(account: AccountId, proven: ReadonlySet<AccountId>): number {
    if (this.#distrusted.has(account)) return DISTRUSTED_STALL_SHARE;
    return isStranger(account, proven) ? STRANGER_STALL_SHARE : STALL_SHARE;
  }

  /** Begins the time of submissions that were not asked for yet, and forgets those of other rounds. */
  #noteAsked(submissions: readonly SubmissionRecord[]): void {
    const now = this.#now();
    const cids = submissions.flatMap(({ reveal }) => (reveal === undefined ? [] : [reveal.cid]));
    this.#askedMs = new Map(cids.map((cid) => [cid, this.#askedMs.get(cid) ?? now]));
  }

  #distrust(account: AccountId): void {
    this.#distrusted.delete(account);
    this.#distrusted.add(account);
    if (this.#distrusted.size <= MAX_DISTRUSTED) return;
    for (const oldest of this.#distrusted) {
      this.#distrusted.delete(oldest);
      return;
    }
  }
}
