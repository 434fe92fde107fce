/**
 * A ledger under test: made-up accounts, blocks by the call, no signatures.
 */
import { createHash } from 'node:crypto';
import { cidText } from '../../node/blobs/manifest.ts';
import { type AccountId, addressOf } from '../../node/chain/account.ts';
import { UNITS_PER_ALICE } from '../../node/chain/amount.ts';
import type { Vote } from '../../node/chain/block.ts';
import { certifySessionKey, registerMiner, revealSubmission } from '../../node/chain/calls.ts';
import { type EquivocationEvidence, equivocationEvidence } from '../../node/chain/evidence.ts';
import type { Genesis } from '../../node/chain/genesis.ts';
import { domainHash, type Hash } from '../../node/chain/hash.ts';
import type { Parameters } from '../../node/chain/parameters.ts';
import { FIRST_SLOT } from '../../node/chain/seat.ts';
import { sessionProofBytes } from '../../node/chain/session-signature.ts';
import {
  type Call,
  type Score,
  scoresCommitment,
  submissionCommitment,
  TRANSACTION_VERSION,
  type Transaction,
  taskNonce,
  transactionId,
  type Verdict,
} from '../../node/chain/transaction.ts';
import { sessionSigner } from '../../node/identity/signatures.ts';
import { accountRecord, SUPPLY } from '../../node/ledger/accounts.ts';
import { Draft } from '../../node/ledger/draft.ts';
import {
  type CallErrorCode,
  INCLUSION_ERRORS,
  type InclusionErrorCode,
  InvalidBlockError,
} from '../../node/ledger/errors.ts';
import type { LedgerEvent } from '../../node/ledger/events.ts';
import {
  type BlockInput,
  type BuiltBlock,
  buildBlock,
  type ExecutedBlock,
  executeBlock,
  type Receipt,
} from '../../node/ledger/execute.ts';
import { LedgerState } from '../../node/ledger/state.ts';

/** Time of genesis in tests. */
export const GENESIS_TIME_MS = 1_790_000_000_000;

/** Small, fast parameters; override what a test is about. */
export function testParameters(
  override: {
    rounds?: Partial<Parameters['rounds']>;
    economics?: Partial<Parameters['economics']>;
    staking?: Partial<Parameters['staking']>;
    consensus?: Partial<Parameters['consensus']>;
    registration?: Partial<Parameters['registration']>;
  } = {},
): Parameters {
  return {
    consensus: {
      proposeTimeoutMs: 1000,
      proposeTimeoutDeltaMs: 500,
      prevoteTimeoutMs: 500,
      prevoteTimeoutDeltaMs: 250,
      precommitTimeoutMs: 500,
      precommitTimeoutDeltaMs: 250,
      blockIntervalMs: 100,
      emptyBlockIntervalMs: 1000,
      clockDriftMs: 5000,
      maxTransactionsPerBlock: 500,
      ...override.consensus,
    },
    rounds: {
      trainDeadlineMs: 60_000,
      revealDeadlineMs: 10_000,
      scoreDeadlineMs: 30_000,
      scoreRevealDeadlineMs: 10_000,
      aggregateDeadlineMs: 30_000,
      trainMinimumMs: 10_000,
      revealMinimumMs: 2000,
      acceptanceFloorPpm: 250_000,
      maxSeats: 64,
      newcomerSeats: 4,
      newcomerSeatsPpm: 100_000,
      assignedShardsPpm: 500_000,
      idleRounds: 3,
      newcomerTries: 3,
      noShowRounds: 2,
      checkpointEveryRounds: 4,
      shardsPerMiner: 4,
      scoringSequences: 16,
      ...override.rounds,
    },
    economics: {
      epochMs: 60_000,
      minerSharePpm: 800_000,
      validatorSharePpm: 150_000,
      infrastructureSharePpm: 50_000,
      transactionsPerAccountPerBlock: 16,
      existentialDeposit: 0,
      baseFee: 0,
      feePerByte: 0,
      feeBurnPpm: 1_000_000,
      vestingMs: 0,
      ...override.economics,
    },
    staking: {
      maxValidators: 16,
      validatorSetIntervalBlocks: 1,
      genesisWeightFadeMs: Number.MAX_SAFE_INTEGER,
      unitsPerPower: 1_000_000_000_000,
      minimumBond: 1_000_000_000_000,
      unbondingMs: 10_000,
      unbondingBlocks: 20,
      offenceWindowBlocks: 10,
      slashBurnPpm: 1_000_000,
      absentRoundsToJail: 0,
      jailMs: 5000,
      ...override.staking,
    },
    registration: {
      baseWork: 0,
      bond: 0,
      perHour: 60,
      doubling: 16,
      maxPerBlock: 500,
      challengeMs: 600_000,
      expiryMs: 315_360_000_000,
      ...override.registration,
    },
    training: {
      batchSequences: 8,
      minInnerSteps: 1,
      maxInnerSteps: 100,
      trainTargetMs: 10_000,
      innerLearningRate: 0.001,
      warmupRounds: 2,
      weightDecay: 0.1,
      outerStep: 1,
      scoringStepShare: 0.2,
      errorFeedbackDecay: 0.95,
      topK: 64,
      valueBits: 2,
    },
  };
}

/** An account by name; nobody has its key. */
export function namedAccount(name: string): AccountId {
  return createHash('sha256').update(`test account ${name}`).digest('hex') as AccountId;
}

/** A hash by name. */
export function namedHash(name: string): Hash {
  return domainHash('test', Buffer.from(name));
}

/** The CID of a blob that nobody has, by name. */
export function namedCid(name: string): string {
  return cidText(createHash('sha256').update(name).digest());
}

/** A genesis with those validators. */
export function testGenesis(
  validators: readonly { account: AccountId; weight: bigint; sessionKey?: Hash }[],
  parameters: Parameters = testParameters(),
): Genesis {
  return {
    version: 1,
    name: 'test',
    timeMs: GENESIS_TIME_MS,
    message: 'test',
    preset: { layers: 2 },
    seed: '11'.repeat(32),
    modelRoot: namedHash('weights 0'),
    corpus: { manifest: namedCid('manifest'), trainingShards: 100, heldOutShards: 5, shardTokens: 1000 },
    validators: validators.map(({ account, weight, sessionKey }) => ({
      address: addressOf(account),
      sessionKey: sessionKey ?? namedHash(`session ${account}`),
      certificate: '00'.repeat(64),
      weight: String(weight),
    })),
    parameters,
  };
}

/** A state with balances that were never mined, for tests that need money before the first epoch. */
export function withBalances(state: LedgerState, balances: ReadonlyMap<AccountId, bigint>): LedgerState {
  const draft = new Draft(state);
  let total = state.supply.totalIssuance;
  for (const [account, balance] of balances) {
    draft.set(accountRecord(account), { balance, nonce: 0 });
    total += balance;
  }
  draft.set(SUPPLY, { ...state.supply, totalIssuance: total });
  return new LedgerState(state.tree.with(draft.changes()));
}

/** The peer that every reveal in tests names: an id of the ones that libp2p's documents use. */
export const PROVIDER = '12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA';

/** Salt of every commitment in tests. */
export const SALT = new Uint8Array(32).fill(7);

/** A verdict with a score in thousandths of a nat. */
export function scored(milliNats: number): Verdict {
  return { tag: 'scored', value: BigInt(milliNats) * 1_000_000n };
}

/**
 * Builds a block out of calls, as a proposer does it, numbering those of each account one after the other. What the
 * ledger refuses of the free ones is left out, leaves its nonce to the next, and has a receipt with the error all the
 * same; so has what may be in no block for another reason.
 */
export function buildFrom(
  state: LedgerState,
  input: Omit<BlockInput, 'transactions'>,
  calls: readonly (readonly [AccountId, Call])[],
): { readonly built: BuiltBlock; readonly receipts: Receipt[] } {
  const refused = new Map<number, Receipt>();
  for (;;) {
    const nonces = new Map<AccountId, number>();
    const offered = calls.flatMap(([signer, call], position) => {
      if (refused.has(position)) return [];
      const nonce = nonces.get(signer) ?? state.account(signer).nonce;
      nonces.set(signer, nonce + 1);
      const transaction: Transaction = {
        body: { version: TRANSACTION_VERSION, signer, nonce, validUntil: input.height + 10, tip: 0, call },
        signature: new Uint8Array(64),
      };
      return [{ position, signed: { id: transactionId(transaction), transaction } }];
    });
    const built = buildBlock(state, { ...input, transactions: offered.map(({ signed }) => signed) });
    const unfit = new Map(built.unfit.map(({ id, code }) => [id, code]));
    let again = false;
    for (const { position, signed } of offered) {
      const code = unfit.get(signed.id);
      if (code === undefined || code === 'ERR_NONCE_GAP') continue;
      const { signer, nonce, call } = signed.transaction.body;
      refused.set(position, { id: signed.id, signer, nonce, call: call.tag, error: code as CallErrorCode });
      again = true;
    }
    if (again) continue;
    const receipts = new Map(built.receipts.map((receipt) => [receipt.id, receipt]));
    const positions = new Map(offered.map(({ position, signed }) => [position, receipts.get(signed.id)]));
    return {
      built,
      receipts: calls.map((_, position) => (positions.get(position) ?? refused.get(position)) as Receipt),
    };
  }
}

/** A ledger that executes what it is told, block by block. */
export class LedgerHarness {
  readonly validators: readonly AccountId[];
  readonly miners: readonly AccountId[];
  readonly genesis: Genesis;
  state: LedgerState;
  last: ExecutedBlock | undefined;
  readonly allEvents: LedgerEvent[] = [];
  #nowMs = BigInt(GENESIS_TIME_MS);

  constructor(
    options: {
      validators?: number;
      powers?: readonly bigint[];
      miners?: number;
      parameters?: Parameters;
      genesis?: Partial<Genesis>;
    } = {},
  ) {
    const powers = options.powers ?? Array.from({ length: options.validators ?? 4 }, () => 10n);
    this.validators = powers.map((_, index) => namedAccount(`validator ${index}`));
    this.miners = Array.from({ length: options.miners ?? 3 }, (_, index) => namedAccount(`miner ${index}`)).sort();
    const genesis = testGenesis(
      this.validators.map((account, index) => ({ account, weight: powers[index] })),
      options.parameters,
    );
    this.genesis = { ...genesis, ...options.genesis };
    this.state = LedgerState.genesis(this.genesis);
  }

  /**
   * Executes one block, `afterMs` after the one before, and says what became of each call: a free one that is refused is
   * in no block, and its account's nonce stays.
   */
  block(
    calls: readonly (readonly [AccountId, Call])[] = [],
    afterMs = 100,
    evidence: readonly EquivocationEvidence[] = [],
  ): Receipt[] {
    this.#nowMs += BigInt(afterMs);
    const height = this.state.height + 1;
    const input = { height, timeMs: this.#nowMs, beacon: namedHash(`beacon ${height}`), proposer: this.validators[0] };
    const { built, receipts } = buildFrom(this.state, { ...input, evidence }, calls);
    for (const { error } of receipts) {
      if (error !== undefined && error in INCLUSION_ERRORS && (error as string) !== 'ERR_FREE_CALL_LIMIT')
        throw new InvalidBlockError(INCLUSION_ERRORS[error as string as InclusionErrorCode]);
    }
    this.last = executeBlock(this.state, { ...input, transactions: built.included, evidence });
    if (this.last.state.root !== built.state.root) throw new Error('proposing and executing differ');
    this.state = this.last.state;
    this.allEvents.push(...this.last.events);
    return receipts;
  }

  /** One block per call; the error code of each. */
  try(signer: AccountId, call: Call): string | undefined {
    return this.block([[signer, call]])[0].error;
  }

  /** Registers the miners and waits until they are seated, if there are seats for all. */
  start(): void {
    this.block(this.miners.map((miner) => [miner, register()] as const));
    this.block([], 2500);
  }

  get round(): number {
    return this.state.round.round;
  }

  /** Accounts that are seated in the open round, ascending. */
  get seated(): AccountId[] {
    return this.state.round.seats.map(({ account }) => account);
  }

  commitCall(account: AccountId, cid = this.cidOf(account), slot = FIRST_SLOT): Call {
    const { round, attempt, beacon, modelRoot } = this.state.round;
    const seat = { account, slot };
    const commitment = submissionCommitment({ cid, seat, nonce: taskNonce(beacon, seat), modelRoot, salt: SALT });
    return { tag: 'commitSubmission', value: { round, attempt, slot, commitment } };
  }

  revealCall(miner: AccountId, cid = this.cidOf(miner), slot = FIRST_SLOT): Call {
    return revealSubmission(this.round, slot, { cid, sizeBytes: 1000, salt: SALT, provider: PROVIDER });
  }

  cidOf(miner: AccountId): string {
    return namedCid(`${miner} ${this.round}`);
  }

  /** Scores of one validator for all revealed submissions. */
  scores(verdict: (miner: AccountId) => Verdict): Score[] {
    return this.state.round.submissions
      .filter(({ reveal }) => reveal !== undefined)
      .map(({ account, slot }) => ({ miner: account, slot, verdict: verdict(account) }));
  }

  commitScoresCall(validator: AccountId, verdict: (miner: AccountId) => Verdict, loss = 5_000_000_000n): Call {
    const scores = this.scores(verdict);
    const parts = { round: this.round, validator, salt: SALT, heldOutLoss: loss, scores };
    return { tag: 'commitScores', value: { round: this.round, commitment: scoresCommitment(parts) } };
  }

  revealScoresCall(verdict: (miner: AccountId) => Verdict, loss = 5_000_000_000n): Call {
    const scores = this.scores(verdict);
    return { tag: 'revealScores', value: { round: this.round, salt: SALT, heldOutLoss: loss, scores } };
  }

  attestCall(root = namedHash(`weights ${this.round}`), checkpoint?: string): Call {
    const { round, checkpointDue } = this.state.round;
    const cid = checkpoint ?? (checkpointDue ? namedCid(`checkpoint ${round}`) : '');
    return { tag: 'attestModel', value: { round, modelRoot: root, checkpoint: cid } };
  }

  /** Evidence, of which nobody checks the signatures, against a validator that voted at a height (the last one). */
  equivocation(validator: AccountId, height = this.state.height, power?: bigint): EquivocationEvidence {
    const set = this.state.nextValidators;
    const vote = (name: string): Vote => ({
      body: { type: 1, height, round: 0, blockId: namedHash(name) },
      validator,
      signature: new Uint8Array(64),
    });
    const known = set.some(({ account }) => account === validator);
    const session = { account: validator, sessionKey: namedHash('session'), power: power ?? 10n };
    return equivocationEvidence(vote('one'), vote('other'), known ? set : [...set, session]);
  }

  /** Plays a whole round, in which those of `present` work that have a seat. */
  playRound(
    verdict: (miner: AccountId) => Verdict = () => scored(10),
    blockMs = 100,
    present: readonly AccountId[] = this.miners,
  ): void {
    const working = present.filter((miner) => this.seated.includes(miner));
    this.block(
      working.map((miner) => [miner, this.commitCall(miner)] as const),
      blockMs,
    );
    if (this.state.round.phase === 'train') this.block([], this.state.parameters.rounds.trainDeadlineMs);
    this.block(
      working.map((miner) => [miner, this.revealCall(miner)] as const),
      blockMs,
    );
    this.block(
      this.validators.map((v) => [v, this.commitScoresCall(v, verdict)] as const),
      blockMs,
    );
    this.block(
      this.validators.map((v) => [v, this.revealScoresCall(verdict)] as const),
      blockMs,
    );
    if (this.state.round.phase === 'aggregate') {
      this.block(
        this.validators.map((v) => [v, this.attestCall()] as const),
        blockMs,
      );
    }
  }
}

/** A call by which an account certifies the session key of a numbered seed. */
export function certificate(ledger: LedgerHarness, account: AccountId, seed: number): Call {
  const { sessionKey, sign } = sessionSigner(new Uint8Array(32).fill(seed));
  return certifySessionKey(sessionKey, sign(sessionProofBytes(ledger.state.chain.networkId, account, sessionKey)));
}

export function register(device = 'test device'): Call {
  return registerMiner(device);
}

export function transferCall(to: AccountId, amount: bigint): Call {
  return { tag: 'transfer', value: { to, amount } };
}

/** Whole ALICE in units. */
export function alice(whole: number): bigint {
  return BigInt(whole) * UNITS_PER_ALICE;
}
