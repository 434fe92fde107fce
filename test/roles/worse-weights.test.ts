// time-limit: 120 s
/** Submissions that gain where they are tried, and wreck the model where they are applied in full. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { ResidentModelSession } from '../../kernels/session/resident-session.ts';
import { blobCid } from '../../node/blobs/manifest.ts';
import { revealSubmission } from '../../node/chain/calls.ts';
import { parseHash } from '../../node/chain/hash.ts';
import { FIRST_SLOT } from '../../node/chain/seat.ts';
import type { Call } from '../../node/chain/transaction.ts';
import { SILENT_LOGGER } from '../../node/log/logger.ts';
import { Validator, type ValidatorComponents } from '../../roles/validator/validator.ts';
import { smallPreset } from '../kernels/small-preset.ts';
import { seed, tokensFor, withFolder, withSessions } from '../kernels/small-session.ts';
import { LedgerHarness, PROVIDER, SALT, testParameters } from '../ledger/harness.ts';
import { until, withPeers } from '../network/local-peers.ts';
import { startReplica } from './joining.ts';

const WIDTH = smallPreset.context + 1;

/** Two ids in turn. */
const easy = (sequences: number) => Int32Array.from({ length: sequences * WIDTH }, (_, i) => 5 + ((i % WIDTH) & 1));

/** A shard of text that is mostly easy. */
const text = Uint16Array.from(Array.from({ length: 10 }, (_, i) => [...easy(3), ...tokensFor(1, i + 1)]).flat());

/** A chain with one validator, whose calls go into blocks of their own. */
class ChainOfOneValidator {
  readonly harness: LedgerHarness;
  readonly #listeners = new Set<() => void>();

  constructor(modelRoot: string) {
    const parameters = testParameters({ rounds: { scoringSequences: 32, noShowRounds: 1 } });
    const genesis = { seed: Buffer.from(seed).toString('hex'), modelRoot: parseHash(modelRoot) };
    this.harness = new LedgerHarness({ validators: 1, miners: 1, parameters, genesis });
    this.harness.start();
  }

  get state() {
    return this.harness.state;
  }

  onBlock(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async send(call: Call): Promise<void> {
    this.block([[this.harness.validators[0]!, call]]);
  }

  block(calls: Parameters<LedgerHarness['block']>[0], afterMs = 100): void {
    for (const { error } of this.harness.block(calls, afterMs)) assert.is(error, undefined);
    for (const listener of [...this.#listeners]) listener();
  }
}

test(
  'an accepted submission that makes the model worse than it was changes nothing, and training goes on after it',
  withPeers(async (peers) => {
    await withFolder(async (folder) => {
      await withSessions([{}, {}], async (attacker, honest) => {
        const chain = new ChainOfOneValidator(honest.initialize(seed));
        const { harness } = chain;
        const at = join(folder, 'validator');
        await mkdir(at);
        const checkpoint = { cid: '', round: 0, modelRoot: '' };
        const start = { preset: smallPreset, checkpoint, bootstrap: [] };
        const { replica, blobs, model } = await startReplica(peers, 'validator', start, at, {
          genesis: harness.genesis,
          ledger: chain,
        });
        await replica.open();
        const init = { dir: join(at, 'scores'), context: smallPreset.context, maxSubmissionBytes: 2 ** 20 };
        const validator = new Validator(init, {
          genesis: harness.genesis,
          account: harness.validators[0]!,
          ledger: chain,
          replica,
          corpus: { shard: async () => ({ vocabulary: smallPreset.vocabulary, tokens: text }) },
          model,
          blobs,
          roundBlobs: { expect: () => {}, offer: () => {} },
          send: (call: Call) => chain.send(call),
          log: SILENT_LOGGER,
        } as unknown as ValidatorComponents);
        validator.start();

        const submit = async (session: ResidentModelSession, learningRate: number) => {
          const [miner] = harness.miners;
          await session.train({ tokens: easy(40), learningRate });
          const round = { round: harness.round, modelRoot: harness.state.modelRoot, author: miner! };
          const bytes = await session.compress(round, join(folder, `feedback-${learningRate}`));
          await blobs.store.put(bytes);
          const cid = blobCid(bytes);
          chain.block([[miner!, harness.commitCall(miner!, cid)]]);
          const what = { cid, sizeBytes: bytes.length, salt: SALT, provider: PROVIDER };
          chain.block([[miner!, revealSubmission(harness.round, FIRST_SLOT, what)]]);
        };
        const initial = harness.state.modelRoot;
        try {
          await submit(attacker, 0.3);
          await until(
            () => /not attesting/.test(validator.activity.activity) || harness.round === 2,
            'it was measured',
          );
          const [accepted] = harness.state.roundResult(1)!.submissions;
          assert.ok(accepted!.accepted, 'it gains at a fifth of the step');
          assert.is(harness.round, 1, 'nobody attests it');
          chain.block([], 30_000);
          assert.is(harness.state.roundResult(1)!.aggregation, 'failed');
          assert.is(harness.state.modelRoot, initial);

          await submit(honest, 0.003);
          await until(() => harness.round === 3, 'honest work is attested');
          assert.is(harness.state.roundResult(2)!.aggregation, 'updated');
          assert.is.not(harness.state.modelRoot, initial);
        } finally {
          await validator.stop();
        }
      });
    });
  }),
);

test.run();
