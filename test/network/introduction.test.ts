/** A validator proves to its peers which peer it is; nobody else can, and nobody for another peer. */
import { Bytes, Struct } from 'scale-ts';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { hashBytes } from '../../node/chain/hash.ts';
import type { ValidatorSet } from '../../node/chain/validator-set.ts';
import { type SessionSigner, sessionSigner } from '../../node/identity/signatures.ts';
import type { PeerIdText } from '../../node/network/interface.ts';
import { SILENT_LOG } from '../../node/network/log.ts';
import type { Network } from '../../node/network/network.ts';
import {
  HELLO_LIMITS,
  HELLO_PROTOCOL,
  type IntroductionLedger,
  introductionLedger,
  PeerIntroduction,
  peerProofBytes,
} from '../../node/peer-introduction.ts';
import { namedAccount } from '../ledger/harness.ts';
import { connectionFlood } from './attackers.ts';
import { type Cleanup, until, withPeers } from './local-peers.ts';

const NETWORK_ID = new Uint8Array(8).fill(7);
const helloCodec = Struct({ sessionKey: Bytes(32), signature: Bytes(64) });

const signerOf = (number: number) => sessionSigner(new Uint8Array(32).fill(number));

function validatorSet(...signers: SessionSigner[]): ValidatorSet {
  return signers.map(({ sessionKey }, index) => ({ account: namedAccount(`v${index}`), sessionKey, power: 1n }));
}

function ledger(set: { validators: ValidatorSet; providers?: PeerIdText[] }): IntroductionLedger {
  return { validators: () => set.validators, acceptedProviders: () => set.providers ?? [] };
}

async function introduced(
  peers: Cleanup,
  network: Network,
  given: IntroductionLedger,
  session?: SessionSigner,
): Promise<PeerIntroduction> {
  const introduction = new PeerIntroduction({
    network,
    networkId: NETWORK_ID,
    ledger: given,
    session,
    log: SILENT_LOG,
  });
  await introduction.start();
  peers.add(async () => introduction.stop());
  return introduction;
}

test(
  'a validator is known to whom it connects, until it is none any more; a miner by its accepted work',
  withPeers(async (peers) => {
    const state = { validators: validatorSet(signerOf(1)), providers: [] as PeerIdText[] };
    const ours = await peers.started('ours');
    const introduction = await introduced(peers, ours, ledger(state));
    const validator = await peers.started('validator', { bootstrap: ours.multiaddrs() });
    await introduced(peers, validator, ledger(state), signerOf(1));
    await until(() => ours.standings.of(validator.peerId) === 'validator', 'known as a validator');
    state.validators = validatorSet(signerOf(2));
    introduction.refresh();
    assert.is(ours.standings.of(validator.peerId), 'stranger');
    state.providers = [validator.peerId];
    introduction.refresh();
    assert.is(ours.standings.of(validator.peerId), 'record');
  }),
);

test(
  'nobody is a validator by another key, for another peer, of another network, or by a damaged proof',
  withPeers(async (peers) => {
    const ours = await peers.started('ours');
    await introduced(peers, ours, ledger({ validators: validatorSet(signerOf(1)) }));
    const liar = await peers.started('liar', { bootstrap: ours.multiaddrs() });
    await until(() => liar.peers().length === 1, 'connected');
    const { sessionKey, sign } = signerOf(1);
    const other = signerOf(2);
    const own = peerProofBytes(NETWORK_ID, sessionKey, liar.peerId);
    const damaged = sign(own);
    damaged[5]! ^= 1;
    const proofs = {
      'a key without a place': { sessionKey: other.sessionKey, signature: other.sign(own) },
      "another's signature": { sessionKey, signature: other.sign(own) },
      'a replayed proof': { sessionKey, signature: sign(peerProofBytes(NETWORK_ID, sessionKey, ours.peerId)) },
      'another network': { sessionKey, signature: sign(peerProofBytes(new Uint8Array(8), sessionKey, liar.peerId)) },
      'a damaged signature': { sessionKey, signature: damaged },
    };
    const say = (hello: Uint8Array) => liar.request(ours.peerId, HELLO_PROTOCOL, hello, { limits: HELLO_LIMITS });
    for (const [name, proof] of Object.entries(proofs)) {
      const hello = helloCodec.enc({ sessionKey: hashBytes(proof.sessionKey), signature: proof.signature });
      assert.equal([...(await say(hello))], [0], name);
      assert.is(ours.standings.of(liar.peerId), 'stranger', name);
    }
  }),
);

test(
  'a validator that nobody knows yet gets into a full node under a flood, and stays',
  withPeers(async (peers) => {
    const state = { validators: validatorSet(signerOf(1)) };
    const ours = await peers.started('ours', { maxPeers: 16 });
    await introduced(peers, ours, ledger(state));
    const address = ours.multiaddrs()[0]!;
    peers.add(await connectionFlood(address, 48));
    await until(() => ours.peers().length >= 12, 'the node is full', 20_000);
    const validator = await peers.peer('validator', { bootstrap: [address] });
    await introduced(peers, validator, ledger(state), signerOf(1));
    await validator.start();
    await until(() => ours.standings.of(validator.peerId) === 'validator', 'known as a validator', 20_000);
    for (let look = 0; look < 400; look++) {
      await new Promise((resolve) => setTimeout(resolve, 25));
      assert.ok(ours.peers().includes(validator.peerId), `still connected at look ${look}`);
    }
  }),
);

test('the chain names both sets, and the providers of what was accepted in the last rounds', () => {
  const sets = new Map([
    [6, validatorSet(signerOf(1))],
    [7, validatorSet(signerOf(2))],
  ]);
  let reads = 0;
  const submission = (provider: string, accepted: boolean) => ({ provider, accepted }) as never;
  const read = introductionLedger({
    height: 5,
    validators: (height) => sets.get(height),
    state: {
      round: { round: 40 } as never,
      roundResult: (round: number) => {
        reads += 1;
        if (round < 20) return undefined;
        return { submissions: [submission(`good ${round}`, true), submission(`bad ${round}`, false)] } as never;
      },
    },
  });
  assert.equal(read.validators().length, 2);
  assert.equal([...read.acceptedProviders(3)], ['good 39', 'good 38', 'good 37']);
  read.acceptedProviders(3);
  assert.is(reads, 3);
});

test.run();
