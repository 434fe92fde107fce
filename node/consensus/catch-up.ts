/**
 * Asking one peer for what this node lacks of the height that is being decided. Gossip forgets, drops, and does not send
 * a message twice; so a node that makes no progress asks its peers, one after the other. The answer also tells how far
 * the peer is, which is how a node learns that it is behind.
 */
import { Bytes, type CodecType, Struct, u32 } from 'scale-ts';
import { encodeVote, MAX_BLOCK_BYTES } from '../chain/block.ts';
import { decodeStrict, hashCodec, Vector } from '../chain/codec.ts';
import type { ProtocolLimits } from '../network/interface.ts';
import type { DriverState } from './core/driver.ts';
import { roundsWithVotes, votesOf } from './core/vote-keeper.ts';
import type { Engine } from './engine.ts';

/** Name of the protocol. */
export const CATCH_UP_PROTOCOL = 'consensus-height';

/** Proposals of rounds that a request can say it has, and rounds of which it can ask for all votes. */
const MAX_LISTED = 64;

/** An answer holds one full proposal and some thousand votes at most. */
export const CATCH_UP_LIMITS: ProtocolLimits = {
  maxRequestBytes: 4 * 1024,
  maxResponseBytes: MAX_BLOCK_BYTES + 256 * 1024,
  timeoutMs: 4_000,
  // A stalled node asks a few times a second, and not always the same peer.
  requestsPerSecond: 10,
  burst: 30,
  maxConcurrentPerPeer: 4,
  maxConcurrent: 32,
};

/** Room for votes in an answer: 1,000 of them, five rounds of 100 validators. */
const MAX_VOTES = 1000;

const requestCodec = Struct({
  height: u32,
  /** Rounds whose votes matter most: valid rounds of proposals whose quorum of prevotes was not seen. */
  rounds: Vector(u32),
  /** Proposals that need not be sent. */
  have: Vector(Struct({ round: u32, blockId: hashCodec })),
});
export type CatchUpRequest = CodecType<typeof requestCodec>;

const responseCodec = Struct({
  /** Height of the peer's last finalized block. */
  finalizedHeight: u32,
  /** Encoded proposals and votes of the height that was asked for; empty when the peer is at another. */
  proposals: Vector(Bytes()),
  votes: Vector(Bytes()),
});
export type CatchUpResponse = CodecType<typeof responseCodec>;

/** Throws DecodeError. */
export function decodeCatchUpResponse(bytes: Uint8Array): CatchUpResponse {
  return decodeStrict(responseCodec, bytes, CATCH_UP_LIMITS.maxResponseBytes, 'catch-up response');
}

/** What a node at this state asks for. */
export function catchUpRequest(core: DriverState): Uint8Array {
  const proposals = [...core.proposals.values()].flat().filter(({ valid }) => valid);
  return requestCodec.enc({
    height: core.machine.height,
    rounds: [...new Set(proposals.map(({ validRound }) => validRound))]
      .filter((round) => round >= 0)
      .sort((a, b) => b - a)
      .slice(0, MAX_LISTED),
    have: proposals.slice(-MAX_LISTED).map(({ round, value }) => ({ round, blockId: value })),
  });
}

/** Answers a request from what the engine holds. Throws DecodeError. */
export function answerCatchUp(
  engine: Pick<Engine, 'core' | 'encodedProposal' | 'mayTell'>,
  finalizedHeight: number,
  bytes: Uint8Array,
): Uint8Array {
  const request = decodeStrict(requestCodec, bytes, CATCH_UP_LIMITS.maxRequestBytes, 'catch-up request');
  const { core } = engine;
  const answer: CatchUpResponse = { finalizedHeight, proposals: [], votes: [] };
  if (request.height !== core.machine.height) return responseCodec.enc(answer);
  const rounds = [...new Set([...request.rounds.slice(0, MAX_LISTED), ...roundsWithVotes(core.votes)])];
  for (const round of rounds) {
    const votes = votesOf(core.votes, round).filter((vote) => engine.mayTell(vote));
    if (answer.votes.length + votes.length > MAX_VOTES) break;
    answer.votes.push(...votes.map(encodeVote));
  }
  const had = new Set(request.have.slice(0, MAX_LISTED).map(({ round, blockId }) => `${round}/${blockId}`));
  let bytesLeft = MAX_BLOCK_BYTES + 512;
  const latestFirst = [...core.proposals.values()].flat().sort((a, b) => b.round - a.round);
  for (const { round, value, valid } of latestFirst) {
    if (!valid || had.has(`${round}/${value}`)) continue;
    const encoded = engine.encodedProposal(round, value);
    if (encoded === undefined || encoded.length > bytesLeft) continue;
    bytesLeft -= encoded.length;
    answer.proposals.push(encoded);
  }
  return responseCodec.enc(answer);
}
