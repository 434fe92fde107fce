/**
 * The last settled rounds in the words of the status page, read from the ledger once each.
 */
import type { RoundStatus } from './api/status.ts';
import { addressOf } from './chain/account.ts';
import type { RoundResult, SubmissionReason } from './ledger/round-records.ts';
import type { LedgerState } from './ledger/state.ts';

/** Rounds that the status shows at most. */
const MAX_ROUNDS = 64;

const NANO = 1e9;

/** What the ledger's reasons mean to the owner of a submission. */
const REASONS: Readonly<Record<SubmissionReason, string>> = {
  accepted: '',
  notRevealed: 'not revealed in time',
  unavailable: 'too few validators could fetch it',
  malformed: 'not a valid submission for this round',
  duplicate: 'the same bytes were committed earlier by another account',
  noGain: 'it did not lower the held-out loss',
  belowFloor: "its score is below a quarter of the round's median",
};

function describe(result: RoundResult): RoundStatus {
  return {
    round: result.round,
    heldOutLoss: result.heldOutLoss === undefined ? null : Number(result.heldOutLoss) / NANO,
    submissions: result.submissions.map(({ account, score, accepted, reason, sizeBytes }) => ({
      address: addressOf(account),
      score: score === undefined ? null : Number(score) / NANO,
      accepted,
      reason: REASONS[reason],
      sizeBytes,
    })),
    aggregation: result.aggregation,
  };
}

export class RoundHistory {
  readonly #chain: { readonly state: LedgerState };
  readonly #rounds = new Map<number, RoundStatus>();

  constructor(chain: { readonly state: LedgerState }) {
    this.#chain = chain;
  }

  /** Settled rounds that the ledger still has, oldest first, at most 64. */
  list(): RoundStatus[] {
    const { state } = this.#chain;
    const last = state.round.round;
    const first = Math.max(1, last - MAX_ROUNDS + 1);
    const rounds: RoundStatus[] = [];
    for (let round = first; round <= last; round++) {
      let status = this.#rounds.get(round);
      if (status === undefined) {
        const result = state.roundResult(round);
        if (result === undefined) continue;
        status = describe(result);
        // Until its weights are decided there is more to come.
        if (result.aggregation !== 'open') this.#rounds.set(round, status);
      }
      rounds.push(status);
    }
    for (const round of this.#rounds.keys()) if (round < first) this.#rounds.delete(round);
    return rounds;
  }
}
