/** Replicas that join by a checkpoint, on a ledger that says nothing else. */
import { join } from 'node:path';
import { parameterCount } from '../../kernels/model/layout.ts';
import type { Preset } from '../../kernels/model/preset.ts';
import { presetHash } from '../../kernels/model/preset-hash.ts';
import { ModelClient } from '../../kernels/session/model-client.ts';
import { BlobExchange } from '../../node/blobs/exchange.ts';
import { openBlobStore } from '../../node/blobs/store.ts';
import { SILENT_LOGGER } from '../../node/log/logger.ts';
import { ModelReplica, type ModelReplicaComponents } from '../../roles/replica/model-replica.ts';
import { smallRecipe } from '../kernels/small-session.ts';
import type { Cleanup } from '../network/local-peers.ts';

export interface LedgerCheckpoint {
  readonly cid: string;
  readonly round: number;
  readonly modelRoot: string;
}

/** What a joiner in another process is told. */
export interface JoinOrder {
  readonly preset: Preset;
  readonly checkpoint: LedgerCheckpoint;
  readonly bootstrap: string[];
  readonly memoryBytes: number;
}

/** A ledger on which the round after the checkpoint's is open. */
export function ledgerAfter(checkpoint: LedgerCheckpoint): ModelReplicaComponents['ledger'] {
  const round = { round: checkpoint.round + 1, phase: 'train', modelRoot: checkpoint.modelRoot };
  const state = { checkpoint, round, weightUpdates: [], roundResult: () => undefined };
  return { state, onBlock: () => () => {} } as unknown as ModelReplicaComponents['ledger'];
}

/** A peer with a model. Its folder outlives it. */
export async function startReplica(
  peers: Cleanup,
  name: string,
  { preset, checkpoint, bootstrap, memoryBytes }: Omit<JoinOrder, 'memoryBytes'> & { readonly memoryBytes?: number },
  folder: string,
  chain: Partial<Pick<ModelReplicaComponents, 'genesis' | 'ledger'>> = {},
): Promise<{
  replica: ModelReplica;
  blobs: BlobExchange;
  model: ModelClient;
  weightsPath: string;
  addresses: string[];
}> {
  const network = await peers.started(name, { bootstrap });
  const store = await openBlobStore({ dir: join(folder, 'blobs') });
  const blobs = new BlobExchange(network, store);
  await blobs.start();
  peers.add(async () => {
    await blobs.stop();
    await store.close();
  });
  const model = await ModelClient.start({
    preset,
    recipe: { ...smallRecipe, batchSequences: 1 },
    threads: 1,
    ...(memoryBytes === undefined ? {} : { memoryBytes, streamFolder: join(folder, 'streaming') }),
  });
  peers.add(() => model.close());
  const weightsPath = join(folder, 'weights.bin');
  const replica = new ModelReplica(
    {
      weights: { path: weightsPath, presetHash: presetHash(preset), elements: parameterCount(preset) },
      maxSubmissionBytes: 2 ** 20,
    },
    {
      genesis: {} as ModelReplicaComponents['genesis'],
      ledger: ledgerAfter(checkpoint),
      ...chain,
      blobs,
      roundBlobs: {
        expect: () => {},
        offer: () => {},
        offerHeld: () => {},
      } as unknown as ModelReplicaComponents['roundBlobs'],
      model,
      log: SILENT_LOGGER,
    },
  );
  return { replica, blobs, model, weightsPath, addresses: network.multiaddrs() };
}
