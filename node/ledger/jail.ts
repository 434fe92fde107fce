/**
 * Module staking, absence: a validator that reveals no scores in many scored rounds in a row is jailed, that is out of
 * the validator set until it asks to come back. It loses no stake: it may just have been offline.
 *
 * Whatever happens, a scored round had revealers with more than two thirds of the power, so less than a third is jailed
 * at a time.
 */
import type { AccountId } from '../chain/account.ts';
import type { Parameters } from '../chain/parameters.ts';
import type { ValidatorSet } from '../chain/validator-set.ts';
import type { Draft } from './draft.ts';
import { CallRefusedError } from './errors.ts';
import type { LedgerEvent } from './events.ts';
import { readStake, setStake } from './stakes.ts';

/** Counts a scored round: who of the validators revealed scores. Jails those who were away for too long. */
export function noteAttendance(
  draft: Draft,
  validators: ValidatorSet,
  present: ReadonlySet<AccountId>,
  at: { readonly timeMs: bigint },
  parameters: Parameters,
): LedgerEvent[] {
  const { absentRoundsToJail, jailMs } = parameters.staking;
  if (absentRoundsToJail === 0) return [];
  const events: LedgerEvent[] = [];
  for (const { account } of validators) {
    const stake = readStake(draft, account);
    if (stake.tombstoned || stake.jailedUntilMs !== undefined) continue;
    const absentRounds = present.has(account) ? 0 : stake.absentRounds + 1;
    if (absentRounds >= absentRoundsToJail) {
      const jailedUntilMs = at.timeMs + BigInt(jailMs);
      setStake(draft, account, { ...stake, absentRounds: 0, jailedUntilMs });
      events.push({ type: 'jailed', account, untilMs: jailedUntilMs });
    } else if (absentRounds !== stake.absentRounds) {
      setStake(draft, account, { ...stake, absentRounds });
    }
  }
  return events;
}

/** Call `unjail`. Throws {@link CallRefusedError}. */
export function unjail(draft: Draft, account: AccountId, at: { readonly timeMs: bigint }): LedgerEvent[] {
  const stake = readStake(draft, account);
  if (stake.tombstoned) throw new CallRefusedError('ERR_TOMBSTONED');
  if (stake.jailedUntilMs === undefined) throw new CallRefusedError('ERR_NOT_JAILED');
  if (at.timeMs < stake.jailedUntilMs) throw new CallRefusedError('ERR_STILL_JAILED');
  setStake(draft, account, { ...stake, jailedUntilMs: undefined, absentRounds: 0 });
  return [{ type: 'unjailed', account }];
}
