/**
 * The flood: one attacker with many keys, each of which is registered and does whatever costs nothing. It follows the
 * chain with a node of its own, as anyone can, and sends through gossip under several peer identities, each made anew when
 * the network no longer listens to it. `node flood-process.ts SETUP`; it ends with its parent, and reports what it did.
 */
import { createHash } from 'node:crypto';
import { stopSignal } from '../../../node/api/parent-link.ts';
import { blobCid } from '../../../node/blobs/manifest.ts';
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
  readonly sent: Readonly<Record<string, number>>;
  readonly keys: number;
  /** Keys that are registered now, and the most seats that they had in a round. */
  readonly enlisted: number;
  readonly mostSeats: number;
  /** Rounds in which it left no shard unassigned. */
  readonly identities: number;
}

export interface FloodOffers {
  begin(nothing: null): Promise<void>;
  report(nothing: null): Promise<FloodReport>;
}

/** Peers of the attacker at a time. */
const PEERS = 8;

/** Transactions that are sent at most in one go, so that the attacker itself keeps up. */
const MAX_BATCH = 120;

const setup = JSON.parse(process.argv[2] ?? '') as FloodSetup;
const stopping = stopSignal();
process.on('uncaughtException', () => {});
process.on('unhandledRejection', () => {});
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

const sent: Record<string, number> = {};
let identities = 0;
let mostSeats = 0;
let beganMs: number | undefined;
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

/** What is worth sending now: kind, signer, and how many nonces ahead of the account. */
function* orders(): Generator<readonly [kind: string, signer: AccountSigner, ahead: number, call: Call]> {
  const { state } = node.blockchain;
  const { round } = state;
  const due = Math.floor(((performance.now() - (beganMs ?? performance.now())) / 60_000) * setup.keysPerMinute);
  const ours = signers.slice(0, Math.max(1, due));
  const seated = new Set(round.seats.map(({ account }) => account as string));
  mostSeats = Math.max(mostSeats, ours.filter(({ account }) => seated.has(account)).length);
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
  for (const signer of ours) {
    if (!isEnlisted(state, signer.account)) yield ['register', signer, 0, registerMiner('flood')];
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
      registerMiner('flood'),
    ];
    yield ['free call', signer, ahead, random.pick(calls)];
  }
}

async function flood(): Promise<void> {
  while (!stopping.aborted) {
    let batch = 0;
    for (const [kind, signer, ahead, call] of orders()) {
      if (stopping.aborted || batch >= MAX_BATCH) break;
      const { nonce } = node.blockchain.account(signer.account);
      const peer = await mouth(batch % PEERS);
      if (peer === undefined) break;
      if (await peer.publish('transactions', signed(signer, nonce + ahead, call))) sent[kind] = (sent[kind] ?? 0) + 1;
      batch += 1;
    }
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

const offers: FloodOffers = {
  begin: async () => {
    beganMs = performance.now();
    void flood();
  },
  report: async () => ({
    sent,
    keys: setup.keys,
    enlisted: signers.filter(({ account }) => isEnlisted(node.blockchain.state, account)).length,
    mostSeats,
    identities,
  }),
};
const parent = new ProcessLine<ParentOffers>(process, { ...offers });
await parent.ask('ready', null);
await new Promise<void>((done) => stopping.addEventListener('abort', () => done(), { once: true }));
await Promise.all(peers.map((peer) => peer?.stop().catch(() => {})));
await node.stop();
log.close();
await folder.release();
process.exit(0);
