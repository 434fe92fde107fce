/** Checks what a genesis says about its founders' keys. Apart from `chain/`, which verifies no account signatures. */
import { accountFromAddress } from '../chain/account.ts';
import { type Genesis, InvalidGenesisError, sessionCertificateBytes } from '../chain/genesis.ts';
import { parseHash } from '../chain/hash.ts';
import { verifyAccount } from './signatures.ts';

/**
 * Checks that every founder's account certified its session key: else a genesis could name keys that their supposed
 * owners never saw. Await `signaturesReady()` before. Throws {@link InvalidGenesisError}.
 */
export function checkGenesisCertificates(genesis: Genesis): void {
  for (const { address, sessionKey, certificate } of genesis.validators) {
    const account = accountFromAddress(address);
    const message = sessionCertificateBytes(account, parseHash(sessionKey));
    if (!verifyAccount(account, message, Buffer.from(certificate, 'hex'))) {
      throw new InvalidGenesisError(`genesis: ${address} did not certify its session key`);
    }
  }
}
