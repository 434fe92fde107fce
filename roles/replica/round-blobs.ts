/**
 * The blobs of training rounds that this node offers to others: submissions, its own and those that it fetched, and
 * checkpoints. They are announced when they may be known, and taken back when the ledger has no use for them any more:
 * a submission when its round settles without accepting it, everything else when the ledger forgets the round. What was
 * taken back is also the first to go from the blob store, so that what strangers reveal never displaces what is needed.
 *
 * What is remembered is bounded by the ledger: rounds that it keeps, times submissions in a round.
 */
import type { Announcer } from '../../node/blobs/announcer.ts';
import type { BlobStore } from '../../node/blobs/store.ts';
import type { RoundResult } from '../../node/ledger/round-records.ts';
import type { TrainingLedger } from './training-ledger.ts';

export interface RoundBlobsComponents {
  readonly ledger: TrainingLedger;
  readonly store: Pick<BlobStore, 'has' | 'evictFirst'>;
  readonly announcer: Pick<Announcer, 'announce' | 'withdraw'>;
}

/** What a blob is to its round: something that its miners revealed, or the weights after it. */
export type RoundBlobKind = 'submission' | 'checkpoint';

interface RoundBlob {
  readonly kind: RoundBlobKind;
  /** The latest round that it is of. */
  round: number;
  /** It came into the store for the sake of a round: nothing else here needs it. */
  readonly onlyHere: boolean;
  announced: boolean;
}

export class RoundBlobs {
  readonly #components: RoundBlobsComponents;
  readonly #blobs = new Map<string, RoundBlob>();
  readonly #unsubscribe: () => void;
  /** The open round when this was looked at last. */
  #round: number;

  constructor(components: RoundBlobsComponents) {
    this.#components = components;
    this.#round = components.ledger.state.round.round;
    this.#unsubscribe = components.ledger.onBlock(() => this.#look());
  }

  /** Follows the ledger no longer. */
  stop(): void {
    this.#unsubscribe();
  }

  /**
   * Says that a blob of a round is about to be fetched or stored. What the store has already, it has for another reason:
   * a stranger may reveal the CID of anything. (A checkpoint is named by a quorum, and only there for joiners.)
   */
  expect(round: number, cid: string, kind: RoundBlobKind = 'submission'): void {
    this.#noted(round, cid, kind);
  }

  /** Offers a blob of a round that is in the store. Before the reveal phase that must not be one's own submission. */
  offer(round: number, cid: string, kind: RoundBlobKind = 'submission'): void {
    this.#noted(round, cid, kind).announced = true;
    this.#components.announcer.announce(cid);
  }

  #noted(round: number, cid: string, kind: RoundBlobKind): RoundBlob {
    let blob = this.#blobs.get(cid);
    if (blob === undefined) {
      const onlyHere = kind === 'checkpoint' || !this.#components.store.has(cid);
      blob = { kind, round, onlyHere, announced: false };
      this.#blobs.set(cid, blob);
    }
    blob.round = Math.max(blob.round, round);
    return blob;
  }

  /** Offers again, after a start, what others need and the store has: the latest checkpoint and what it leads on to. */
  offerHeld(): void {
    const { ledger, store } = this.#components;
    const { checkpoint, weightUpdates, round } = ledger.state;
    if (checkpoint.cid !== '' && store.has(checkpoint.cid)) this.offer(checkpoint.round, checkpoint.cid, 'checkpoint');
    for (const result of weightUpdates) {
      if (result.round <= checkpoint.round) continue;
      for (const { accepted, cid } of result.submissions) if (accepted && store.has(cid)) this.offer(result.round, cid);
    }
    for (const { reveal } of round.submissions) {
      if (reveal !== undefined && store.has(reveal.cid)) this.offer(round.round, reveal.cid);
    }
  }

  /** At each new round, takes back what the ledger has no use for. */
  #look(): void {
    const { state } = this.#components.ledger;
    if (state.round.round === this.#round) return;
    this.#round = state.round.round;
    const results = new Map<number, RoundResult | undefined>();
    for (const [cid, { kind, round, onlyHere, announced }] of this.#blobs) {
      if (round >= this.#round || cid === state.checkpoint.cid) continue;
      // Each is read from the ledger once.
      if (!results.has(round)) results.set(round, state.roundResult(round));
      const result = results.get(round);
      const accepted = result?.submissions.some((submission) => submission.cid === cid && submission.accepted) === true;
      // A checkpoint that a later one took the place of is kept as long as the rounds after it: somebody is joining by it.
      if (accepted || (kind === 'checkpoint' && result !== undefined)) continue;
      this.#blobs.delete(cid);
      if (announced) this.#components.announcer.withdraw(cid);
      if (onlyHere) this.#components.store.evictFirst(cid);
    }
  }
}
