/**
 * What a block did, for people and programs that watch. Events are not part of the state.
 */
import type { AccountId } from '../chain/account.ts';
import type { Amount } from '../chain/amount.ts';
import type { Hash } from '../chain/hash.ts';
import type { SessionKey, ValidatorSet } from '../chain/validator-set.ts';
import type { RewardedRole } from './epochs.ts';
import type { Phase } from './round-records.ts';

export type LedgerEvent =
  | { readonly type: 'transfer'; readonly from: AccountId; readonly to: AccountId; readonly amount: Amount }
  /** The allowance is now `amount`. */
  | {
      readonly type: 'approval';
      readonly owner: AccountId;
      readonly spender: AccountId;
      readonly amount: Amount;
    }
  /** `burned` of the fee was burned; the rest is in the infrastructure pot. */
  | { readonly type: 'feePaid'; readonly account: AccountId; readonly amount: Amount; readonly burned: Amount }
  /** Locked rewards moved to the balance. */
  | { readonly type: 'vested'; readonly account: AccountId; readonly amount: Amount }
  /** `bonded`: what the account now has at stake. */
  | { readonly type: 'bonded'; readonly account: AccountId; readonly amount: Amount; readonly bonded: Amount }
  | {
      readonly type: 'unbonding';
      readonly account: AccountId;
      readonly amount: Amount;
      readonly freeHeight: number;
      readonly freeTimeMs: bigint;
    }
  | { readonly type: 'withdrawn'; readonly account: AccountId; readonly amount: Amount }
  | { readonly type: 'sessionKeyCertified'; readonly account: AccountId; readonly sessionKey: SessionKey }
  | { readonly type: 'jailed'; readonly account: AccountId; readonly untilMs: bigint }
  | { readonly type: 'unjailed'; readonly account: AccountId }
  /** Evidence was committed: the account is out. What it lost is in the `slashed` events that follow. */
  | { readonly type: 'equivocated'; readonly account: AccountId; readonly offenceHeight: number }
  | {
      readonly type: 'slashed';
      readonly account: AccountId;
      readonly amount: Amount;
      readonly burned: Amount;
      readonly offenceHeight: number;
    }
  | { readonly type: 'validatorsChanged'; readonly actsAtHeight: number; readonly validators: ValidatorSet }
  | {
      readonly type: 'parameterVote';
      readonly account: AccountId;
      readonly change: string;
      readonly height: number;
    }
  | { readonly type: 'parametersScheduled'; readonly change: string; readonly height: number }
  | { readonly type: 'parametersChanged'; readonly change: string }
  /** An agreed change no longer fitted the bounds when its height came. */
  | { readonly type: 'parametersRefused'; readonly change: string }
  /** Part of an epoch's mint; locked for the vesting time. */
  | {
      readonly type: 'rewarded';
      readonly account: AccountId;
      readonly role: RewardedRole;
      readonly amount: Amount;
      readonly epoch: number;
    }
  | { readonly type: 'minerRegistered'; readonly account: AccountId }
  /** Its registration brought no accepted work for too long, and is forgotten. */
  | { readonly type: 'minerExpired'; readonly account: AccountId }
  /** Units were held for a registration, or came back when it ended. */
  | { readonly type: 'registrationBonded'; readonly account: AccountId; readonly amount: Amount }
  | { readonly type: 'registrationBondReturned'; readonly account: AccountId; readonly amount: Amount }
  /** Its last `newcomerTries` seats came to nothing: it has to register again to be seated. */
  | { readonly type: 'minerStruckOff'; readonly account: AccountId }
  /** A round, or its training phase anew, opened with this many seats, `proven` of them of accounts with accepted work. */
  | {
      readonly type: 'roundOpened';
      readonly round: number;
      readonly attempt: number;
      readonly seats: number;
      readonly proven: number;
    }
  | { readonly type: 'phaseChanged'; readonly round: number; readonly phase: Phase }
  /** Scores were settled. `heldOutLossNanoNats` is undefined when nothing was revealed. */
  | {
      readonly type: 'roundSettled';
      readonly round: number;
      readonly accepted: number;
      readonly rejected: number;
      readonly heldOutLossNanoNats: bigint | undefined;
    }
  /** Validators did not agree on new weights before the deadline: those before the round stay. */
  | { readonly type: 'aggregationFailed'; readonly round: number }
  | { readonly type: 'modelUpdated'; readonly round: number; readonly modelRoot: Hash }
  | { readonly type: 'checkpointPublished'; readonly round: number; readonly modelRoot: Hash; readonly cid: string }
  | { readonly type: 'epochSettled'; readonly epoch: number; readonly minted: Amount };
