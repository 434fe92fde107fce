/**
 * What a file in `attacks/` exports, and what an attack is given. An attack runs in a process of its own, so that its
 * work is not taken for the victim's; what it wants to know of the others it asks over the process line.
 */
import type { AccountId } from '../../node/chain/account.ts';
import type { Genesis } from '../../node/chain/genesis.ts';
import type { PeerIdText } from '../../node/network/interface.ts';
import type { NodeLook } from './arena/node-process.ts';
import type { ProcessLine } from './arena/process-line.ts';
import type { SeededRandom } from './attacker/random.ts';

/** Something that has to be so for the network to have held. */
export interface Claim {
  readonly what: string;
  readonly holds: boolean;
  /** What was found, in words and figures. */
  readonly found: string;
}

/** A node as attackers see it. */
export interface Target {
  readonly port: number;
  /** Multiaddr with peer id. */
  readonly address: string;
  readonly peer: PeerIdText;
}

/** What an attack is told. Plain data: it crosses between processes. */
export interface AttackSetup {
  readonly attack: string;
  readonly seed: number;
  /** How long to press. */
  readonly seconds: number;
  readonly genesis: Genesis;
  readonly networkName: string;
  readonly victim: Target;
  readonly other: Target;
  /** A blob that the victim holds, and one that only the other validator holds. */
  readonly cid: string;
  readonly otherCid: string;
}

/** What an attack can ask of the arena. */
export interface ArenaOffers {
  look(who: 'victim' | 'other'): Promise<NodeLook>;
  /** The victim fetches a blob, as it would one that the ledger names. */
  fetch(what: { cid: string; timeoutMs: number }): Promise<{ bytes: number } | { code: string }>;
  /** The victim's gossip score of a peer, and whether it is connected to it. */
  regard(peer: PeerIdText): Promise<{ score: number; connected: boolean }>;
  /** Whether the victim's ledger has an account as a miner. */
  enlisted(account: AccountId): Promise<boolean>;
  /** An honest peer with a fresh key joins and asks for a block and a blob: milliseconds, or why not. */
  newcomer(limitMs: number): Promise<{ ms: number } | { code: string }>;
  /** A node begins at genesis, knowing only these addresses, until it has the victim's height: milliseconds, or null. */
  observer(what: { bootstrap: readonly string[]; limitMs: number }): Promise<number | null>;
  /** Size of blocks since a height, and of the state. */
  sizes(fromHeight: number): Promise<{ blockBytes: number; transactions: number; stateBytes: number }>;
  say(line: string): Promise<void>;
}

/** What an attack has at hand. */
export interface AttackContext extends AttackSetup {
  /** First 8 bytes of the genesis hash. */
  readonly networkId: Uint8Array;
  readonly random: SeededRandom;
  readonly arena: ProcessLine<ArenaOffers>;
  /** True while the attack is to press on, for the set time from the first call. */
  pressing(): boolean;
  /** Called at the end, whatever happens; the last first. */
  afterwards(stop: () => Promise<unknown> | unknown): void;
}

/** One attack. */
export interface Attack {
  /** As given on the command line. */
  readonly name: string;
  /** One line: what the attacker does. */
  readonly what: string;
  /** Which of the findings, or of its list, it plays. */
  readonly answers: string;
  /** Also in `npm test`, for a moment. */
  readonly quick: boolean;
  /** The validators are this far from each other, in milliseconds; 0: side by side. */
  readonly apartMs?: number;
  /** Presses, and says what has to be so while it still does; the harness adds lag, memory, blocks and honest service. */
  run(context: AttackContext): Promise<readonly Claim[]>;
}
