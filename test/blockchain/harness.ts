/**
 * A blockchain under test: real keys and signatures, one proposer, commits by its only validator.
 */

import { type Blockchain, blockchain, type ListenerLog } from '../../node/blockchain/blockchain.ts';
import type { AccountId } from '../../node/chain/account.ts';
import { beaconMessage } from '../../node/chain/beacon.ts';
import { type Block, blockId, type Commit, voteSignBytes } from '../../node/chain/block.ts';
import { genesisHash, networkId } from '../../node/chain/genesis.ts';
import type { Parameters } from '../../node/chain/parameters.ts';
import {
  type Call,
  encodeTransaction,
  type TransactionBody,
  transactionSignBytes,
} from '../../node/chain/transaction.ts';
import { validatorSetHash } from '../../node/chain/validator-set.ts';
import { type AccountSigner, accountSigner, sessionSigner, signaturesReady } from '../../node/identity/signatures.ts';
import { forkedState } from '../../node/ledger/forked-state.ts';
import { LedgerState } from '../../node/ledger/state.ts';
import type { MempoolLimits } from '../../node/mempool/mempool.ts';
import { Store, type WritePoint } from '../../node/store/store.ts';
import { testGenesis, testParameters, withBalances } from '../ledger/harness.ts';

await signaturesReady();

/** Signer by number, always the same. */
export function testSigner(number: number): AccountSigner {
  return accountSigner(new Uint8Array(32).fill(number + 1));
}

export const PROPOSER = testSigner(100);

/** Genesis with one validator, {@link PROPOSER}. */
export function chainGenesis(parameters: Parameters = testParameters()) {
  const sessionKey = sessionSigner(new Uint8Array(32).fill(99)).sessionKey;
  return testGenesis([{ account: PROPOSER.account, weight: 10n, sessionKey }], parameters);
}

export function openChain(
  path = ':memory:',
  genesis = chainGenesis(),
  onWrite?: (point: WritePoint) => void,
  log?: ListenerLog,
): { chain: Blockchain; store: Store } {
  const store = Store.open({ path, genesisHash: genesisHash(genesis), onWrite });
  return { chain: blockchain({ genesis })({ store, log }), store };
}

/** A chain in whose first state accounts have balances that were never mined, for tests that need money at once. */
export function openFundedChain(
  balances: ReadonlyMap<AccountId, bigint>,
  parameters?: Parameters,
  mempool: Partial<MempoolLimits> = {},
  path = ':memory:',
): { chain: Blockchain; store: Store } {
  const unfunded = chainGenesis(parameters);
  const before = withBalances(LedgerState.genesis(unfunded), balances);
  const genesis = { ...unfunded, initialState: { root: before.root, network: genesisHash(unfunded), height: 0 } };
  const state = forkedState(genesis, before.tree.entries());
  const store = Store.open({ path, genesisHash: genesisHash(genesis) });
  store.writeGenesis(state.tree.entries(), new Map([[validatorSetHash(state.nextValidators), state.nextValidators]]));
  return { chain: blockchain({ genesis, mempool })({ store }), store };
}

/** A signed transaction in wire form. */
export function signed(
  chain: Blockchain,
  signer: AccountSigner,
  call: Call,
  override: Partial<TransactionBody> = {},
): Uint8Array {
  const body: TransactionBody = {
    version: 1,
    signer: signer.account,
    nonce: chain.account(signer.account).nextNonce,
    validUntil: chain.height + 20,
    tip: 0,
    call,
    ...override,
  };
  return encodeTransaction({ body, signature: signer.sign(transactionSignBytes(chain.networkId, body)) });
}

/** A block for the next height out of what waits. */
export function proposeNext(chain: Blockchain, afterMs = 100): Promise<Block> {
  const message = beaconMessage(networkId(chain.genesis), chain.height + 1, chain.beacon);
  const timeMs = chain.lastTimeMs + BigInt(afterMs);
  return chain.propose({ timeMs, proposer: PROPOSER.account, beaconProof: PROPOSER.prove(message) });
}

/** A commit signed by the only validator, as light clients want it. */
export function commitFor(block: Block): Commit {
  const session = sessionSigner(new Uint8Array(32).fill(99));
  const { network, height } = block.header;
  const body = { type: 1, height, round: 0, blockId: blockId(block.header) };
  const signature = session.sign(voteSignBytes(network, body));
  return { height, round: 0, blockId: body.blockId, signatures: [{ validator: PROPOSER.account, signature }] };
}

/** Proposes, validates and makes final one block. */
export async function advance(chain: Blockchain, afterMs = 100): Promise<Block> {
  const block = await proposeNext(chain, afterMs);
  const verdict = await chain.validate(block);
  if (!verdict.valid) throw new Error(verdict.reason);
  await chain.commit(block, commitFor(block));
  return block;
}
