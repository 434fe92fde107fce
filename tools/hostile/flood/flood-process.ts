/**
 * The flood: one attacker with many keys, each of which is registered and does whatever costs nothing. It follows the
 * chain with a node of its own, as anyone can, and sends through gossip under several peer identities, each made anew when
 * the network no longer listens to it. `node flood-process.ts SETUP`; it ends with its parent, and reports what it did, and
 * what its own node, which has the rules of all others, said to each of its transactions.
 */
import { createHash } from 'node:crypto';
import { stopSignal } from '../../../node/api/parent-link.ts';
import { blobCid } from '../../../node/blobs/manifest.ts';
import type { AccountId } from '../../../node/chain/account.ts';
import {
  attestModel,
  commitScores,
  commitSubmission,
  registerMiner,
  revealScores,
  revealSubmission,
} from '../../../node/chain/calls.ts';
import { networkId, networkName } from '../../../node/chain/genesis.ts';
import type { Hash } from '../../../node/chain/hash.ts';
import { readNetworkFile } from '../../../node/chain/network-file.ts';
import type { RegistrationWork } from '../../../node/chain/registration-work.ts';
import { FIRST_SLOT } from '../../../node/chain/seat.ts';
import {
  type Call,
  encodeTransaction,
  submissionCommitment,
  TRANSACTION_VERSION,
  type TransactionBody,
  taskNonce,
  transactionSignBytes,
} from '../../../node/chain/transaction.ts';
import { DataFolder } from '../../../node/data-folder.ts';
import { createIdentity } from '../../../node/identity/identity.ts';
import { type AccountSigner, accountSigner, signaturesReady } from '../../../node/identity/signatures.ts';
import { isEnlisted } from '../../../node/ledger/standing.ts';
import { createLogger } from '../../../node/log/logger.ts';
import { AliceNode } from '../../../node/node.ts';
import { solveRegistration } from '../../../node/registration/solver.ts';
import type { ParentOffers } from '../arena/node-process.ts';
import { ProcessLine } from '../arena/process-line.ts';
import { GossipPeer } from '../attacker/gossip-peer.ts';
import { SeededRandom } from '../attacker/random.ts';

export interface FloodSetup {
  readonly dir: string;
  readonly networkFile: string;
  readonly seed: number;
  /** Fresh keys that register, by the minute. */
  readonly keysPerMinute: number;
  /** Keys that are made before the flood begins. */
  readonly keys: number;
  /** Addresses of the nodes that are flooded, with their peer ids. */
  readonly targets: readonly string[];
}

/** What the flood did, and what it got. */
export interface FloodReport {
  /** Transactions by kind that a node took off its wire. */
  readonly sent: Readonly<Record<string, number>>;
  /** These and those that were not sent, by what a node says: `taken`, or the code of the refusal. */
  readonly answers: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** Transactions that were not sent because the connection took nothing. */
  readonly unsent: number;
  /** Keys that were to have registered by now, and keys that are registered now. */
  readonly due: number;
  readonly enlisted: number;
  /** Peer identities that were used. */
  readonly identities: number;
  /** Registrations that were worked for beforehand, and the hashes that this takes on average. */
  readonly worked: number;
  readonly wantedWork: number;
  /** Share of one core that the attacker took while it flooded. */
  readonly coreShare: number;
}

export interface FloodOffers {
  /** Works for registrations for so long, the cheapest first, as who comes first pays least. Resolves when it has. */
  work(budget: { readonly seconds: number }): Promise<void>;
  begin(nothing: null): Promise<void>;
  report(nothing: null): Promise<FloodReport>;
}

/** Peers of the attacker at a time. */
const PEERS = 8;

/**
 * Transactions that are sent at most in one go, of each kind: the attacker shares its machine with those it attacks, and
 * is to cost them what it sends, not what it computes.
 */
const MOST: Readonly<Record<Kind, number>> = {
  register: 24,
  'register with void work': 2,
  commit: 16,
  reveal: 16,
  'commit without a seat': 12,
  'free call': 16,
};
type Kind = 'register' | 'register with void work' | 'commit' | 'reveal' | 'commit without a seat' | 'free call';

/** Pause between two goes. */
const PAUSE_MS = 500;

/** A registration is sent again when it is in no block after so long. */
const RESEND_MS = 3_000;

/** Keys whose work is for a challenge that the network never had: as work is that was done too early. */
const VOID_KEYS = 4;

const setup = JSON.parse(process.argv[2] ?? '') as FloodSetup;
const stopping = stopSignal();
// Connections end in every possible way; the flood goes on, and its log tells.
process.on('uncaughtException', (error) => console.error(error));
process.on('unhandledRejection', (error) => console.error(error));
await signaturesReady();
const random = new SeededRandom(`flood/${setup.seed}`);
const signers: AccountSigner[] = Array.from({ length: setup.keys }, () => accountSigner(random.bytes(32)));
/** Accounts that never register: whose free calls are refused, or should be. */
const unknown: AccountSigner[] = Array.from({ length: 128 }, () => accountSigner(random.bytes(32)));
const networkFile = await readNetworkFile(setup.networkFile);
const { genesis } = networkFile;
const id = networkId(genesis);
const folder = await DataFolder.open(setup.dir);
const log = createLogger(
  { level: 'warn', components: {}, format: 'json' },
  { file: folder.join('alice.log'), fields: {} },
);
const node = await AliceNode.start({
  role: 'bootstrap',
  name: 'flood',
  networkFile,
  folder,
  identity: await createIdentity(folder.join('keys')),
  listen: ['/ip4/127.0.0.1/tcp/0'],
  announce: [],
  maxPeers: 64,
  api: { host: '127.0.0.1', port: 0 },
  blobCapacityBytes: 64 * 1024 ** 2,
  log,
});

const sent: Partial<Record<Kind, number>> = {};
const answers: Partial<Record<Kind, Record<string, number>>> = {};
/** Work for registrations, by account; none where it is not needed, or could not be done in time. */
const works = new Map<AccountId, RegistrationWork>();
const voids = new Map<AccountSigner, RegistrationWork>();
let wantedWork = 0;
let identities = 0;
let unsent = 0;
let began: { readonly ms: number; readonly cpu: NodeJS.CpuUsage } | undefined;
const peers: (GossipPeer | undefined)[] = Array.from({ length: PEERS }, () => undefined);

/** A peer that is listened to, at one of the targets. */
async function mouth(index: number): Promise<GossipPeer | undefined> {
  const known = peers[index];
  if (known?.open === true) return known;
  await known?.stop().catch(() => {});
  const target = setup.targets[index % setup.targets.length];
  if (target === undefined) return undefined;
  const from = process.platform === 'linux' ? { from: `127.3.${index}.${1 + (identities % 250)}` } : {};
  const name = `flood/${setup.seed}/${identities++}`;
  const peer = await GossipPeer.join(target, { networkName: networkName(genesis), name, ...from }).catch(
    () => undefined,
  );
  peers[index] = peer;
  return peer;
}

function signed(signer: AccountSigner, nonce: number, call: Call): Uint8Array {
  const validUntil = node.blockchain.height + 100;
  const body: TransactionBody = {
    version: TRANSACTION_VERSION,
    signer: signer.account,
    nonce,
    validUntil,
    tip: 0,
    call,
  };
  return encodeTransaction({ body, signature: signer.sign(transactionSignBytes(id, body)) });
}

const salt = (signer: AccountSigner) => new Uint8Array(createHash('sha256').update(`salt/${signer.account}`).digest());
/** A blob that nobody has. */
const cidOf = (signer: AccountSigner, round: number) => blobCid(Buffer.from(`flood/${signer.account}/${round}`));
const anyHash = (): Hash => Buffer.from(random.bytes(32)).toString('hex') as Hash;

/** Keys that were to have registered by now. */
function dueKeys(): number {
  const minutes = began === undefined ? 0 : (performance.now() - began.ms) / 60_000;
  return Math.min(signers.length, Math.ceil(minutes * setup.keysPerMinute));
}

const registeredAtMs = new Map<AccountId, number>();

/** What is worth sending now: kind, signer, and how many nonces ahead of the account. */
function* orders(): Generator<readonly [kind: Kind, signer: AccountSigner, ahead: number, call: Call]> {
  const { state } = node.blockchain;
  const { round } = state;
  const ours = signers.slice(0, dueKeys());
  const seated = new Set(round.seats.map(({ account }) => account as string));
  const committed = new Map(round.submissions.map((submission) => [submission.account as string, submission]));
  const commitment = (signer: AccountSigner) => {
    const seat = { account: signer.account, slot: FIRST_SLOT };
    return submissionCommitment({
      cid: cidOf(signer, round.round),
      seat,
      nonce: taskNonce(round.beacon, seat),
      modelRoot: state.modelRoot,
      salt: salt(signer),
    });
  };
  // Finding 9: registrations, as many as come due; those that fell out come again.
  const nowMs = performance.now();
  for (const signer of ours) {
    const { account } = signer;
    if (isEnlisted(state, account) || nowMs - (registeredAtMs.get(account) ?? -Infinity) < RESEND_MS) continue;
    registeredAtMs.set(account, nowMs);
    yield ['register', signer, 0, registerMiner('flood', works.get(account))];
  }
  for (const [signer, work] of voids) {
    yield ['register with void work', signer, 0, registerMiner('flood', work)];
  }
  for (const signer of ours) {
    const submission = committed.get(signer.account);
    // Finding 4: who has a seat commits in the first block; who has none tries.
    if (round.phase === 'train' && submission === undefined && (seated.has(signer.account) || random.below(8) === 0)) {
      const kind = seated.has(signer.account) ? 'commit' : 'commit without a seat';
      yield [kind, signer, 0, commitSubmission(round, FIRST_SLOT, commitment(signer))];
    }
    // A reveal of what is nowhere; half of them do not even that.
    if (
      round.phase === 'reveal' &&
      submission !== undefined &&
      submission.reveal === undefined &&
      random.below(2) === 0
    ) {
      const cid = cidOf(signer, round.round);
      const reveal = { cid, sizeBytes: 1_000, salt: salt(signer), provider: node.network.peerId as string };
      yield ['reveal', signer, 0, revealSubmission(round.round, FIRST_SLOT, reveal)];
    }
  }
  // Finding 6: what is free, from whom it is not for, and far ahead, to fill the pool.
  for (const signer of unknown) {
    const ahead = random.below(16);
    const calls: readonly Call[] = [
      attestModel(round.round, anyHash(), ''),
      commitScores(round.round, anyHash()),
      revealScores(round.round, random.bytes(32), 0n, []),
      commitSubmission(round, FIRST_SLOT, anyHash()),
    ];
    yield ['free call', signer, ahead, random.pick(calls)];
  }
}

/** What a node answers; its own is asked, which passes on nothing of it. */
async function answerTo(encoded: Uint8Array): Promise<string> {
  try {
    await node.blockchain.submit(encoded, 'gossip');
    return 'taken';
  } catch (error) {
    return (error as { readonly code?: string }).code ?? 'unknown';
  }
}

async function send(kind: Kind, index: number, encoded: Uint8Array): Promise<void> {
  const peer = await mouth(index % PEERS);
  // Before others pass it on: else it would be known already.
  const answer = await answerTo(encoded);
  const before = answers[kind] ?? {};
  answers[kind] = { ...before, [answer]: (before[answer] ?? 0) + 1 };
  if (peer === undefined || !(await peer.publish('transactions', encoded))) unsent += 1;
  else sent[kind] = (sent[kind] ?? 0) + 1;
}

async function flood(): Promise<void> {
  let index = 0;
  while (!stopping.aborted) {
    const batch: Partial<Record<Kind, number>> = {};
    for (const [kind, signer, ahead, call] of orders()) {
      if (stopping.aborted) break;
      const before = batch[kind] ?? 0;
      if (before >= MOST[kind]) continue;
      batch[kind] = before + 1;
      const { nonce } = node.blockchain.account(signer.account);
      await send(kind, index++, signed(signer, nonce + ahead, call)).catch((error: unknown) => {
        console.error(error);
        unsent += 1;
      });
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}

/** See {@link FloodOffers.work}. */
async function work(seconds: number): Promise<void> {
  const deadline = AbortSignal.any([stopping, AbortSignal.timeout(seconds * 1000)]);
  const { state } = node.blockchain;
  const challenge = state.registration.challenges[0]?.beacon;
  const { doubling } = state.parameters.registration;
  const base = state.registrationPrice;
  if (challenge === undefined || base === 0n) return;
  const solve = (signer: AccountSigner, beacon: Hash, wanted: bigint) =>
    solveRegistration({
      networkId: id,
      account: signer.account,
      challenge: beacon,
      wanted: () => wanted,
      signal: deadline,
    });
  try {
    for (const signer of unknown.slice(0, VOID_KEYS)) voids.set(signer, await solve(signer, anyHash(), base));
    for (const [index, signer] of signers.entries()) {
      const wanted = BigInt(Math.ceil(Number(base) * 2 ** ((index + 1) / doubling)));
      works.set(signer.account, await solve(signer, challenge, wanted));
      wantedWork += Number(wanted);
    }
  } catch (error) {
    if (!deadline.aborted) throw error;
  }
}

const offers: FloodOffers = {
  work: ({ seconds }) => work(seconds),
  begin: async () => {
    began = { ms: performance.now(), cpu: process.cpuUsage() };
    void flood();
  },
  report: async () => {
    const { user, system } = process.cpuUsage(began?.cpu);
    return {
      sent: sent as Record<string, number>,
      answers: answers as Record<string, Record<string, number>>,
      unsent,
      due: dueKeys(),
      enlisted: signers.filter(({ account }) => isEnlisted(node.blockchain.state, account)).length,
      identities,
      worked: works.size,
      wantedWork,
      coreShare: began === undefined ? 0 : (user + system) / 1000 / (performance.now() - began.ms),
    };
  },
};
const parent = new ProcessLine<ParentOffers>(process, { ...offers });
await parent.ask('ready', null);
await new Promise<void>((done) => stopping.addEventListener('abort', () => done(), { once: true }));
await Promise.all(peers.map((peer) => peer?.stop().catch(() => {})));
await node.stop();
log.close();
await folder.release();
process.exit(0);
