/** The service with what it uses in production: real clock, disk and keys. One validator, so that no network is needed. */
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { beaconMessage } from '../../node/chain/beacon.ts';
import { blockId } from '../../node/chain/block.ts';
import { verifyCommit } from '../../node/consensus/commit-verifier.ts';
import { silentLogger } from '../../node/consensus/logger.ts';
import { consensus } from '../../node/consensus/service.ts';
import {
  accountSigner,
  sessionSigner,
  signaturesReady,
  verifyProof,
  verifySession,
} from '../../node/identity/signatures.ts';
import type { PeerIdText } from '../../node/network/interface.ts';
import { type Chain, SimulatedApplication } from '../simulation/application.ts';
import { SimulatedNetwork } from '../simulation/network.ts';
import { SIMULATED_PARAMETERS } from '../simulation/node.ts';
import { seededRandom } from '../simulation/random.ts';
import { World } from '../simulation/world.ts';

const NETWORK = new Uint8Array(8).fill(3);

test('finalizes, stops, starts again, with signatures, commits and beacon proofs that verify', async () => {
  await signaturesReady();
  const account = accountSigner(new Uint8Array(32).fill(1));
  const session = sessionSigner(new Uint8Array(32).fill(2));
  const validators = [{ account: account.account, sessionKey: session.sessionKey, power: 5n }];
  const folder = mkdtempSync(join(tmpdir(), 'alice-consensus-'));
  const chain: Chain = { blocks: [] };
  const parameters = { ...SIMULATED_PARAMETERS, blockIntervalMs: 5, emptyBlockIntervalMs: 20 };
  const application = new SimulatedApplication({
    chain,
    networkId: NETWORK,
    genesisTimeMs: 0n,
    validatorsAt: () => validators,
    verify: verifySession,
    transactions: (height) => [Buffer.from(`transaction ${height}`)],
    hasWork: () => true,
  });
  const { gossip, requests, discovery } = new SimulatedNetwork(new World(0), seededRandom(1), {
    minDelayMs: 0,
    maxDelayMs: 0,
    loss: 0,
    duplication: 0,
  }).join('only' as PeerIdText);
  const start = async () => {
    const service = consensus({ networkId: NETWORK, parameters, signer: { account, session }, directory: folder })({
      application,
      gossip,
      requests,
      discovery,
      logger: silentLogger,
    });
    await service.start();
    return service;
  };
  const beacons = [application.beacon];
  for (const life of [1, 2]) {
    const service = await start();
    while (chain.blocks.length < life * 5) {
      await once(service, 'finalized');
      beacons.push(application.beacon);
    }
    assert.ok(service.status.voting);
    await service.stop();
  }
  assert.equal(readdirSync(folder).sort(), ['consensus.wal', 'evidence.log', 'signer.log']);
  for (const [index, { block, commit }] of chain.blocks.entries()) {
    const height = index + 1;
    verifyCommit({ networkId: NETWORK, height, blockId: blockId(block.header), commit, validators });
    const previous = chain.blocks[index - 1]?.block.header.beacon ?? beacons[0];
    assert.ok(verifyProof(account.account, beaconMessage(NETWORK, height, previous), block.beaconProof));
  }
  rmSync(folder, { recursive: true });
});

test.run();
