/**
 * An honest peer of the attacked node, in a process of its own: it asks for blocks and for a blob, a few times a second,
 * and counts what is served and how soon; now and then a newcomer with a key nobody knows does the same.
 * `node honest-process.ts SETUP` with the setup as JSON.
 */
import { createHash } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { u32 } from 'scale-ts';
import { stopSignal } from '../../../node/api/parent-link.ts';
import { cidDigest } from '../../../node/blobs/manifest.ts';
import { BLOB_LIMITS, BLOB_PROTOCOL, encodeRequest, KIND } from '../../../node/blobs/wire.ts';
import { BLOCK_SYNC_LIMITS, BLOCK_SYNC_PROTOCOL } from '../../../node/consensus/block-sync.ts';
import type { PeerIdText, ProtocolLimits } from '../../../node/network/interface.ts';
import { SILENT_LOG } from '../../../node/network/log.ts';
import { createNetwork, type Network } from '../../../node/network/network.ts';
import type { ParentOffers } from './node-process.ts';
import { ProcessLine } from './process-line.ts';

export interface HonestSetup {
  readonly seed: number;
  readonly networkName: string;
  /** The attacked node, with its peer id. */
  readonly victim: string;
  readonly victimPeer: PeerIdText;
  /** Blob that the victim holds. */
  readonly cid: string;
}

/** What became of requests; times in milliseconds. */
export interface Served {
  readonly asked: number;
  readonly served: number;
  readonly medianMs: number;
  readonly p95Ms: number;
  /** Codes of the errors of those that were not served. */
  readonly failures: Readonly<Record<string, number>>;
}

/** What the honest process can be asked. */
export interface HonestOffers {
  /** Forgets what was counted. */
  reset(nothing: null): Promise<void>;
  served(nothing: null): Promise<Served>;
  /** A peer that nobody knows joins and asks for a block and a blob; the milliseconds that it took, or why not. */
  newcomer(limitMs: number): Promise<{ ms: number } | { code: string }>;
}

/** Pause between two requests. */
const PAUSE_MS = 200;

/** A request counts as served when its answer is there by then: what an honest peer waits for without trying another. */
const PATIENCE_MS = 5_000;

const setup = JSON.parse(process.argv[2] ?? '') as HonestSetup;
const stopping = stopSignal();
const digest = cidDigest(setup.cid);
let names = 0;

async function join(): Promise<Network> {
  const network = await createNetwork({
    networkName: setup.networkName,
    privateKeySeed: createHash('sha256').update(`honest ${setup.seed} ${names++}`).digest(),
    listen: ['/ip4/127.0.0.1/tcp/0'],
    bootstrap: [setup.victim],
    log: SILENT_LOG,
    privateNetwork: true,
  });
  await network.start();
  return network;
}

type Question = readonly [name: string, limits: ProtocolLimits, request: Uint8Array];
const questions: readonly Question[] = [
  [BLOCK_SYNC_PROTOCOL, BLOCK_SYNC_LIMITS, u32.enc(1)],
  [BLOB_PROTOCOL, BLOB_LIMITS, encodeRequest({ kind: KIND.open, digest, index: 0 })],
];

async function ask(network: Network, [name, limits, request]: Question, limitMs = PATIENCE_MS): Promise<number> {
  const fromMs = performance.now();
  const signal = AbortSignal.timeout(Math.ceil(limitMs));
  const answer = await network.request(setup.victimPeer, name, request, { limits, signal });
  if (answer.length < 2) throw Object.assign(new Error('an empty answer'), { code: 'ERR_EMPTY' });
  return performance.now() - fromMs;
}

let times: number[] = [];
let failures: Record<string, number> = {};
let asked = 0;
const regular = await join();

async function traffic(): Promise<void> {
  for (let turn = 0; !stopping.aborted; turn++) {
    const question = questions[turn % questions.length];
    asked += 1;
    const counted = failures;
    void ask(regular, question).then(
      (ms) => times.push(ms),
      (error: { code?: string }) => {
        const code = `${question[0]} ${error.code ?? String(error)}`;
        counted[code] = (counted[code] ?? 0) + 1;
      },
    );
    await pause(PAUSE_MS);
  }
}

const offers: HonestOffers = {
  reset: async () => {
    times = [];
    failures = {};
    asked = 0;
  },
  served: async () => {
    // Those that were asked last get their time.
    const [whole, answers] = [asked, times];
    const limit = performance.now() + PATIENCE_MS;
    const failed = () => Object.values(failures).reduce((sum, count) => sum + count, 0);
    while (answers.length + failed() < whole && performance.now() < limit) await pause(50);
    const sorted = [...answers].sort((a, b) => a - b);
    const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
    return { asked: whole, served: Math.min(whole, answers.length), medianMs: at(0.5), p95Ms: at(0.95), failures };
  },
  newcomer: async (limitMs) => {
    const fromMs = performance.now();
    const network = await join();
    let code = 'nothing was asked';
    try {
      for (const question of questions) {
        for (;;) {
          const leftMs = limitMs - (performance.now() - fromMs);
          if (leftMs <= 0) return { code };
          try {
            await ask(network, question, leftMs);
            break;
          } catch (error) {
            code = `${question[0]} ${(error as { code?: string }).code ?? String(error)}`;
            await pause(100);
          }
        }
      }
      return { ms: performance.now() - fromMs };
    } finally {
      await network.stop();
    }
  },
};
const parent = new ProcessLine<ParentOffers>(process, { ...offers });
void traffic();
await parent.ask('ready', null);
await new Promise<void>((done) => stopping.addEventListener('abort', () => done(), { once: true }));
await regular.stop();
process.exit(0);
