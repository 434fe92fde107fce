/** What the JSON-RPC interface needs of a node. `Blockchain` has all of it but `publish`. */
import type { AccountId } from '../../chain/account.ts';
import type { Hash } from '../../chain/hash.ts';
import type { ValidatorSet } from '../../chain/validator-set.ts';
import type { FinalizedBlock } from '../../consensus/application.ts';
import type { LightBlock } from '../../consensus/light-client/light-block.ts';
import type { LedgerState } from '../../ledger/state.ts';
import type { EventCursor, StoredEvent } from '../../store/event-log.ts';
import type { StoredReceipt } from '../../store/store.ts';

/** Which events, and from where on. */
export interface EventQuery {
  /** Only these types; undefined for all. */
  readonly types?: readonly string[];
  /** Events after this one; undefined from the oldest that is kept. */
  readonly after?: EventCursor;
  readonly limit: number;
}

export interface ChainView {
  readonly genesisHash: Hash;
  readonly networkId: Uint8Array;
  readonly height: number;
  readonly lastBlockId: Hash;
  /** State after the last block. */
  readonly state: LedgerState;
  /** Nonce by the last block, and the one that a new transaction should carry. */
  account(account: AccountId): { readonly balance: bigint; readonly nonce: number; readonly nextNonce: number };
  /** Those who decide the block at a height; undefined where it is not known. */
  validators(height: number): ValidatorSet | undefined;
  /** State after the block at a height; undefined where it is not kept. */
  stateAt(height: number): LedgerState | undefined;
  /** A header with what proves it; undefined where it is not kept. */
  lightBlock(height: number): LightBlock | undefined;
  finalized(height: number): Promise<FinalizedBlock | undefined>;
  heightOf(id: Hash): number | undefined;
  receipt(id: Hash): StoredReceipt | undefined;
  receiptsAt(height: number): readonly StoredReceipt[];
  isWaiting(id: Hash): boolean;
  /** Takes a transaction into the mempool. Throws `TransactionRefusedError`. */
  submit(encoded: Uint8Array): Promise<Hash>;
  /** Events in order. Throws `CursorTooOldError`. */
  events(query: EventQuery): readonly StoredEvent[];
  /** Cursor of the last event of the last block. */
  readonly lastEvent: EventCursor;
  onBlock(listener: () => void): () => void;
}
