import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { blockId } from '../../node/chain/block.ts';
import { validatorSetHash } from '../../node/chain/validator-set.ts';
import { verifyToHeight } from '../../node/consensus/light-client/bisect.ts';
import {
  decodeLightBlock,
  encodeLightBlock,
  type LightBlock,
  lightScheme,
  viewOf,
} from '../../node/consensus/light-client/light-block.ts';
import { verifyAlone, verifyNext } from '../../node/consensus/light-client/verify.ts';
import { commitOf, lightChain, sessionOf, setOf } from './light-chain.ts';

const scheme = lightScheme();
const OPTIONS = { trustingPeriod: 1_000_000n, clockDrift: 500n };
const NOW = 100_000n;

/** What the rules say of a block, in one word. */
function verdictOf(trusted: LightBlock, block: LightBlock, now = NOW): string {
  const verdict = verifyNext(scheme, viewOf(trusted), viewOf(block), OPTIONS, now);
  return verdict.verdict === 'invalid' ? verdict.reason : verdict.verdict;
}

/** A block with another header, signed anew by its own set. */
function altered(block: LightBlock, header: Partial<LightBlock['header']>, signers = block.validators): LightBlock {
  const changed = { ...block.header, ...header };
  return { ...block, header: changed, commit: commitOf(changed, signers) };
}

const constant = lightChain({ length: 40, setAt: () => setOf(1, 2, 3, 4) });
/** Each height, the oldest of four validators leaves and a new one comes. */
const rolling = lightChain({ length: 40, setAt: (height) => setOf(height, height + 1, height + 2, height + 3) });

test('light blocks survive the wire, and nothing else is read', () => {
  const bytes = encodeLightBlock(constant[4]);
  assert.equal(encodeLightBlock(decodeLightBlock(bytes)), bytes);
  assert.throws(() => decodeLightBlock(Buffer.concat([bytes, Buffer.from([0])])), /canonical/);
});

test('adjacent and skipping headers of an honest chain succeed', () => {
  assert.is(verdictOf(constant[0], constant[1]), 'success');
  assert.is(verdictOf(constant[0], constant[39]), 'success');
  assert.is(verdictOf(rolling[0], rolling[1]), 'success');
  assert.is(verifyAlone(scheme, viewOf(constant[0])).verdict, 'success');
});

test('more than a third of the trusted next set is needed to skip, and not exactly a third', () => {
  // The set that header 1 names for height 2 is 2 3 4 5; at height 4 signs 4 5 6 7, at 5 signs 5 6 7 8.
  assert.is(verdictOf(rolling[0], rolling[3]), 'success');
  assert.is(verdictOf(rolling[0], rolling[4]), 'notEnoughTrust');
  const sets = [setOf(1, 2, 3), setOf(1, 2, 3), setOf(1, 4, 5), setOf(1, 4, 5), setOf(1, 4, 5)];
  const third = lightChain({ length: 4, setAt: (height) => sets[height - 1] });
  assert.is(verdictOf(third[0], third[2]), 'notEnoughTrust');
});

test('more than two thirds of its own set, and not exactly two thirds', () => {
  const three = lightChain({ length: 2, setAt: () => setOf(1, 2, 3) });
  assert.is(verdictOf(three[0], { ...three[1], commit: commitOf(three[1].header, setOf(1, 2)) }), 'noQuorum');
  assert.is(
    verdictOf(constant[0], { ...constant[1], commit: commitOf(constant[1].header, setOf(1, 2, 4)) }),
    'success',
  );
  assert.is(verdictOf(constant[0], { ...constant[1], commit: commitOf(constant[1].header, []) }), 'noQuorum');
});

test('a signer outside the set, a signer twice and a wrong signature make a header invalid, quorum or not', () => {
  const [trusted, , block] = constant;
  assert.is(verdictOf(trusted, { ...block, commit: commitOf(block.header, setOf(1, 2, 3, 4, 9)) }), 'outsider');
  assert.is(verdictOf(trusted, { ...block, commit: commitOf(block.header, setOf(1, 2, 2, 3)) }), 'malformed');
  assert.is(verdictOf(trusted, { ...block, commit: commitOf(block.header, setOf(2, 1, 3)) }), 'malformed');
  for (let index = 0; index < 4; index++) {
    const signatures = block.commit.signatures.map((entry) => ({ ...entry, signature: entry.signature.slice() }));
    signatures[index].signature[7] ^= 1;
    assert.is(verdictOf(trusted, { ...block, commit: { ...block.commit, signatures } }), 'wrongSignature');
  }
});

test('an adjacent header must have the validators that the trusted one named', () => {
  const stranger = setOf(7, 8, 9);
  const forged = altered(
    { ...constant[1], validators: stranger },
    { validatorsHash: validatorSetHash(stranger) },
    stranger,
  );
  assert.is(verdictOf(constant[0], forged), 'wrongSet');
});

test('sets, commit and header belong together', () => {
  const [trusted, block, next] = constant;
  assert.is(verdictOf(trusted, { ...block, validators: setOf(1, 2, 3) }), 'wrongSet');
  assert.is(verdictOf(trusted, { ...block, nextValidators: setOf(1, 2, 3) }), 'wrongSet');
  assert.is(verdictOf(trusted, { ...block, commit: next.commit }), 'wrongCommit');
  assert.is(verdictOf(trusted, { ...block, header: { ...block.header, timeMs: 2001n } }), 'wrongCommit');
});

test('time: trusting period, clock drift, and later than before', () => {
  const [trusted, , block] = constant;
  assert.is(verdictOf(trusted, block, 1_000n + OPTIONS.trustingPeriod - 1n), 'success');
  assert.is(verdictOf(trusted, block, 1_000n + OPTIONS.trustingPeriod), 'expired');
  assert.is(verdictOf(trusted, block, 2_501n), 'success');
  assert.is(verdictOf(trusted, block, 2_500n), 'fromFuture');
  assert.is(verdictOf(trusted, altered(block, { timeMs: 1_000n })), 'notLater');
});

test('height and chain', () => {
  const [trusted, , block] = constant;
  assert.is(verdictOf(block, trusted), 'notHigher');
  assert.is(verdictOf(block, block), 'notHigher');
  assert.is(verdictOf(trusted, altered(block, { network: new Uint8Array(8) })), 'otherChain');
});

test('the name of a trusted validator with another key earns no trust', () => {
  // An attacker's set: the trusted accounts, each with a key of the attacker's.
  const own = new Map([1, 2, 3, 4].map((index) => [sessionOf(index, 1).sessionKey as string, sessionOf(index, 1)]));
  const set = setOf(1, 2, 3, 4).map((member, index) => ({ ...member, sessionKey: sessionOf(index + 1, 1).sessionKey }));
  const header = { ...constant[9].header, validatorsHash: validatorSetHash(set) };
  const forged = { ...constant[9], header, validators: set, commit: commitOf(header, set, (key) => own.get(key)) };
  assert.is(verifyAlone(scheme, viewOf(forged)).verdict, 'success');
  assert.is(verdictOf(constant[0], forged), 'notEnoughTrust');
});

function bisect(chain: readonly LightBlock[], height: number, answer = (block: LightBlock) => block) {
  const asked: number[] = [];
  const result = verifyToHeight({
    scheme,
    trusted: viewOf(chain[0]),
    height,
    provider: {
      lightBlock: async (at) => {
        asked.push(at);
        return viewOf(answer(chain[at - 1]));
      },
    },
    options: OPTIONS,
    now: () => NOW,
  });
  return { asked, result };
}

test('bisection takes one step where trust allows, and as many as needed where it does not', async () => {
  const straight = bisect(constant, 40);
  assert.is((await straight.result).target.block, constant[39]);
  assert.equal(straight.asked, [40]);
  const slow = bisect(rolling, 40);
  const { target, path } = await slow.result;
  assert.is(target.block, rolling[39]);
  assert.ok(path.length > 10, `${path.length} headers`);
  assert.is(new Set(slow.asked).size, slow.asked.length, 'each header is asked for once');
});

test('bisection stops at a forged header in between, and at one of another height', async () => {
  const forged = bisect(rolling, 40, (block) =>
    block.header.height < 40 ? { ...block, commit: { ...block.commit, blockId: blockId(rolling[0].header) } } : block,
  );
  const message = await forged.result.then(
    String,
    (error: Error) => `${(error as { code?: string }).code} ${error.message}`,
  );
  assert.match(message, /^ERR_UNTRUSTED_HEADER header 20: .*another header/);
  const other = bisect(rolling, 40, () => rolling[6]);
  assert.match(await other.result.then(String, String), /asked for header 40, got 7/);
});

test.run();
