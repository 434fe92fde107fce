/**
 * Module staking, the keys: which ed25519 key votes for an account.
 *
 * The account certifies the key by signing the transaction; the key shows that it agrees by signing the account. A key
 * serves one account for ever, so that no vote can be anybody else's. A new key votes from two blocks later on.
 */
import type { AccountId } from '../chain/account.ts';
import { sessionProofBytes, verifySession } from '../chain/session-signature.ts';
import type { SessionKey } from '../chain/validator-set.ts';
import { type Draft, need } from './draft.ts';
import { CallRefusedError } from './errors.ts';
import type { LedgerEvent } from './events.ts';
import { CHAIN } from './parameters.ts';
import { readStake, sessionOwner, setStake, stakeRecord } from './stakes.ts';

/** Call `certifySessionKey`. Throws {@link CallRefusedError}. */
export function certifySessionKey(
  draft: Draft,
  account: AccountId,
  call: { readonly sessionKey: SessionKey; readonly proof: Uint8Array },
): LedgerEvent[] {
  const { sessionKey, proof } = call;
  // Who has nothing at stake needs no key, and may not fill the state with keys.
  if (draft.get(stakeRecord(account)) === undefined) throw new CallRefusedError('ERR_NOTHING_BONDED');
  const stake = readStake(draft, account);
  if (stake.tombstoned) throw new CallRefusedError('ERR_TOMBSTONED');
  const owner = draft.get(sessionOwner(sessionKey));
  if (stake.sessionKey === sessionKey || (owner !== undefined && owner !== account)) {
    throw new CallRefusedError('ERR_SESSION_KEY_TAKEN');
  }
  const message = sessionProofBytes(need(draft, CHAIN).networkId, account, sessionKey);
  if (!verifySession(sessionKey, message, proof)) throw new CallRefusedError('ERR_BAD_SESSION_PROOF');
  draft.set(sessionOwner(sessionKey), account);
  setStake(draft, account, { ...stake, sessionKey });
  return [{ type: 'sessionKeyCertified', account, sessionKey }];
}
