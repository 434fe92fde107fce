/** Faults in what has to be on disk, and in the guard of the session key. */
import type { Mutant } from './mutant.ts';

const ENGINE = 'node/consensus/engine.ts';
const GUARD = 'node/consensus/signer-guard.ts';

export const DURABILITY_MUTANTS: readonly Mutant[] = [
  {
    name: 'inputs are not logged',
    file: ENGINE,
    find: 'this.#wal?.append({ height: next.height, input: next.record });',
    replace: 'void next.record;',
  },
  {
    name: 'the guard is on disk before the log',
    file: ENGINE,
    find: "await this.#persistently('write-ahead log', async () => this.#wal?.sync());\n        await this.#persistently('signer guard', async () => this.#guard?.persist());",
    replace:
      "await this.#persistently('signer guard', async () => this.#guard?.persist());\n        void this.#wal?.sync();",
  },
  {
    name: 'a peer that asks gets votes that are not on disk yet',
    file: 'node/consensus/catch-up.ts',
    find: '.filter((vote) => engine.mayTell(vote))',
    replace: '',
  },
  {
    name: 'a peer that asks gets a proposal that is not on disk yet',
    file: ENGINE,
    find: "return own && !this.#own?.hasLeft('proposal', round) ? undefined : this.#blocks.encodedProposal(round, value);",
    replace: 'void own;\n    return this.#blocks.encodedProposal(round, value);',
  },
  {
    name: 'after a failed write the next record goes behind the torn one',
    file: 'node/consensus/framed-log.ts',
    find: 'if (this.#failed) await this.#file.truncate(this.#lengthBytes);',
    replace: '',
  },
  {
    name: 'a zero-filled end reads as records',
    file: 'node/consensus/framed-log.ts',
    find: 'if (length === 0 || length > maxRecordBytes',
    replace: 'if (length > maxRecordBytes',
  },
  {
    name: 'a failed write is given up',
    file: 'node/consensus/persistence.ts',
    find: 'while (context.running()) {',
    replace: 'for (let tries = 0; tries < 1 && context.running(); tries++) {',
  },
  {
    name: 'the guard does not learn from the log',
    file: GUARD,
    find: 'if (this.#last === undefined || comparePositions(position, this.#last) > 0)',
    replace: 'if (this.#networkId === undefined)',
  },
  {
    name: 'the guard forgets when its file is made smaller',
    file: GUARD,
    find: 'frame(recordCodec.enc({ ...this.#last }))',
    replace: 'frame(recordCodec.enc({ ...this.#last })).subarray(0, 0)',
  },
  {
    name: 'the guard remembers only votes',
    file: GUARD,
    find: 'return this.#sign(body.height, body.round, 0, proposalSignBytes(this.#networkId, body));',
    replace: 'return this.#session.sign(proposalSignBytes(this.#networkId, body));',
  },
  {
    name: 'a signature of one network is good in another',
    file: 'node/chain/block.ts',
    find: "return Buffer.concat([encoder.encode('alice/vote/1'), networkId, voteBodyCodec.enc(body)]);",
    replace: "return Buffer.concat([encoder.encode('alice/vote/1'), voteBodyCodec.enc(body)]);",
  },
  {
    name: 'a vote signature is good for a proposal: no domain',
    file: 'node/chain/block.ts',
    find: "encoder.encode('alice/proposal/1'), networkId, proposalBodyCodec",
    replace: "encoder.encode('alice/vote/1'), networkId, proposalBodyCodec",
  },
  {
    name: 'a block is called final before it is on disk',
    file: ENGINE,
    find: "if (!(await this.#persistently('block', () => this.#execution.commit(finalized)))) return;",
    replace:
      "this.#notify(() => this.#events.finalized(finalized));\n    if (!(await this.#persistently('block', () => this.#execution.commit(finalized)))) return;",
  },
];
