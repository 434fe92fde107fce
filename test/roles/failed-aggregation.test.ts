// time-limit: 120 s
/** Weights that were computed and not agreed on: a replica goes back to those before, wherever it finds them. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parameterCount } from '../../kernels/model/layout.ts';
import { presetHash } from '../../kernels/model/preset-hash.ts';
import type { ResidentModelSession } from '../../kernels/session/resident-session.ts';
import { blobCid } from '../../node/blobs/manifest.ts';
import { parseHash } from '../../node/chain/hash.ts';
import { holdsWeights } from '../../roles/replica/checkpoint.ts';
import { smallPreset } from '../kernels/small-preset.ts';
import { seed, withFolder, withSessions } from '../kernels/small-session.ts';
import { LedgerHarness, scored, testParameters } from '../ledger/harness.ts';
import { withPeers } from '../network/local-peers.ts';
import { startReplica } from './joining.ts';

const NO_CHECKPOINT = { cid: '', round: 0, modelRoot: '' };

/** A ledger whose first weights are those of the test's seed, and a miner that makes submissions out of noise. */
class Network {
  readonly harness: LedgerHarness;
  readonly #author: ResidentModelSession;
  readonly #folder: string;
  readonly #listeners = new Set<() => void>();

  constructor(author: ResidentModelSession, modelRoot: string, folder: string) {
    const parameters = testParameters({ rounds: { checkpointEveryRounds: 4, noShowRounds: 1 } });
    const genesis = { seed: Buffer.from(seed).toString('hex'), modelRoot: parseHash(modelRoot) };
    this.harness = new LedgerHarness({ miners: 1, parameters, genesis });
    this.#author = author;
    this.#folder = folder;
    this.harness.start();
  }

  get state() {
    return this.harness.state;
  }

  onBlock(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Plays the round up to its aggregation. Returns the bytes of its only submission, made from those weights. */
  async untilAggregation(weights: Uint8Array): Promise<Uint8Array> {
    const { harness } = this;
    const [miner] = harness.miners;
    const author = this.#author;
    const modelRoot = author.load(weights);
    assert.is(modelRoot, harness.state.modelRoot);
    author.pretend(harness.round);
    const round = { round: harness.round, modelRoot, author: miner! };
    const bytes = await author.compress(round, join(this.#folder, 'feedback'));
    const cid = blobCid(bytes);
    harness.block([[miner!, harness.commitCall(miner!, cid)]]);
    harness.block([[miner!, harness.revealCall(miner!, cid)]]);
    const good = () => scored(10);
    harness.block(harness.validators.map((v) => [v, harness.commitScoresCall(v, good)] as const));
    harness.block(harness.validators.map((v) => [v, harness.revealScoresCall(good)] as const));
    assert.is(harness.state.round.phase, 'aggregate');
    return bytes;
  }

  agree(root: string, checkpoint = ''): void {
    const { harness } = this;
    const attest = harness.attestCall(parseHash(root), checkpoint);
    harness.block(harness.validators.map((v) => [v, attest] as const));
    assert.is(harness.state.modelRoot, root);
  }

  fail(): void {
    const { round } = this.harness;
    this.harness.block([], 30_000);
    assert.is(this.harness.round, round + 1);
    assert.is(this.harness.state.roundResult(round)?.aggregation, 'failed');
  }
}

test(
  'a replica goes back: to the initial weights, to those on disk, to a checkpoint',
  withPeers(async (peers) => {
    await withFolder(async (folder) => {
      await withSessions([{ recipe: { topK: 64 } }], async (author) => {
        const initial = Uint8Array.from(author.weights());
        const network = new Network(author, author.initialize(seed), folder);
        const { harness } = network;
        const signal = AbortSignal.timeout(100_000);
        const start = { preset: smallPreset, checkpoint: NO_CHECKPOINT, bootstrap: [] };
        const at = join(folder, 'replica');
        await mkdir(at);
        const chain = { genesis: harness.genesis, ledger: network };
        const { replica, blobs, model, weightsPath } = await startReplica(peers, 'replica', start, at, chain);
        const file = {
          path: weightsPath,
          presetHash: presetHash(smallPreset),
          elements: parameterCount(smallPreset),
        };
        await replica.open();
        const first = harness.state.modelRoot;
        const weights = async () => Uint8Array.from(await model.weights());
        const aggregate = async () => {
          const before = harness.state.modelRoot;
          const { round } = harness;
          await blobs.store.put(await network.untilAggregation(await weights()));
          await replica.catchUp({ signal });
          assert.is(replica.round, round);
          assert.is.not(replica.root, before, 'its own word on the new weights');
          return replica.root!;
        };

        // Round 1 fails: nothing was ever saved.
        await aggregate();
        assert.not(await holdsWeights(file, replica.root!), 'nobody agreed on them');
        network.fail();
        await replica.catchUp({ signal });
        assert.equal([replica.root, replica.round], [first, 1]);
        assert.equal(await weights(), initial);

        // Round 2 is agreed on, and on disk from then on.
        const second = await aggregate();
        network.agree(second);
        await replica.catchUp({ signal });
        assert.is(replica.root, second);
        assert.ok(await holdsWeights(file, second));
        const good = await weights();

        // Round 3 fails: those on disk are the last good ones.
        await aggregate();
        network.fail();
        await replica.catchUp({ signal });
        assert.equal([replica.root, replica.round], [second, 3]);
        assert.equal(await weights(), good);

        // Round 4 publishes a checkpoint, which nobody agrees on: not even the disk has the good ones any more.
        const fourth = await aggregate();
        await replica.publish({ signal });
        assert.ok(await holdsWeights(file, fourth));
        network.fail();
        await replica.catchUp({ signal });
        assert.is(replica.root, second);
        assert.equal(await weights(), good, 'from the seed, and round 2 again');

        // Round 5 publishes one that counts; round 9 the next, which does not.
        const fifth = await aggregate();
        network.agree(fifth, await replica.publish({ signal }));
        assert.is(harness.state.checkpoint.round, 5);
        for (let round = 6; round <= 8; round++) {
          await replica.catchUp({ signal });
          network.agree(await aggregate());
        }
        await replica.catchUp({ signal });
        const eighth = replica.root;
        await aggregate();
        assert.ok(harness.state.round.checkpointDue);
        await replica.publish({ signal });
        network.fail();
        await replica.catchUp({ signal });
        assert.is(replica.root, eighth, 'by the checkpoint of round 5 and the rounds after it');
        assert.ok(await holdsWeights(file, eighth!));
      });
    });
  }),
);

test.run();
