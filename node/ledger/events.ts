/**
 * What a block did, for people and programs that watch. Events are not part of the state.
 */
import type { AccountId } from '../chain/account.ts';
import type { Amount } from '../chain/amount.ts';
import type { Hash } from '../chain/hash.ts';
import type { Phase } from './round-records.ts';

export type LedgerEvent =
  | { readonly type: 'transfer'; readonly from: AccountId; readonly to: AccountId; readonly amount: Amount }
  | { readonly type: 'minerRegistered'; readonly account: AccountId }
  /** A round, or its training phase anew, opened with this many miners to wait for. */
  | { readonly type: 'roundOpened'; readonly round: number; readonly attempt: number; readonly expected: number }
  | { readonly type: 'phaseChanged'; readonly round: number; readonly phase: Phase }
  /** Scores were settled. `heldOutLossNanoNats` is undefined when nothing was revealed. */
  | {
      readonly type: 'roundSettled';
      readonly round: number;
      readonly accepted: number;
      readonly rejected: number;
      readonly heldOutLossNanoNats: bigint | undefined;
    }
  | { readonly type: 'modelUpdated'; readonly round: number; readonly modelRoot: Hash }
  | { readonly type: 'checkpointPublished'; readonly round: number; readonly modelRoot: Hash; readonly cid: string }
  | { readonly type: 'epochSettled'; readonly epoch: number; readonly minted: Amount };
