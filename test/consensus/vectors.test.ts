/**
 * Data that others made, where the shared vectors are: traces of Malachite's Quint model and cases of tendermint-rs's
 * light client. See tools/vectors/.
 */
import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { replayTrace } from '../../tools/vectors/consensus-itf.ts';
import { replayLightClient } from '../../tools/vectors/light-client.ts';

const folder = resolve(dirname(fileURLToPath(import.meta.url)), '../../../shared/vectors');

if (!existsSync(folder)) {
  console.log('skipped: ../shared/vectors is not there');
  test.skip('traces of the Quint model', () => {});
} else {
  for (const path of globSync('consensus-itf/**/*.itf.json*', { cwd: folder }).sort()) {
    test(`trace ${path}`, () => {
      const { steps, mismatches } = replayTrace(resolve(folder, path));
      assert.ok(steps > 0);
      assert.equal(mismatches.slice(0, 5), []);
    });
  }

  const cases = globSync('light-client/single_step/*.json', { cwd: folder }).sort();
  for (const path of cases) {
    test(`case ${path}`, async () => {
      const result = await replayLightClient(resolve(folder, path), readCase(path));
      assert.ok(result !== undefined && result.steps > 0);
      assert.equal(result.mismatches, []);
    });
  }

  /** One thing wrong with a block; undefined where the block has no place for it. */
  const FORGERIES: Record<string, (block: Json) => unknown> = {
    'a signature': ({ signed_header }) => {
      const entry = signed_header.commit.signatures?.find((given: Json) => given.block_id_flag === 2);
      if (entry !== undefined) entry.signature = flipped(entry.signature);
      return entry;
    },
    'the time of a vote': ({ signed_header }) => {
      const entry = signed_header.commit.signatures?.find((given: Json) => given.block_id_flag === 2);
      if (entry !== undefined) entry.timestamp = '1970-01-01T00:00:59.5Z';
      return entry;
    },
    'the round': ({ signed_header: { commit } }) => {
      commit.round += 1;
      return true;
    },
    'the height of the commit': ({ signed_header: { commit } }) => {
      commit.height = String(Number(commit.height) + 1);
      return true;
    },
    'the block of the commit': ({ signed_header: { commit } }) => {
      commit.block_id.hash = 'A'.repeat(64);
      return true;
    },
    'the chain': ({ signed_header: { header } }) => {
      header.chain_id = 'other';
      return true;
    },
    'the application hash': ({ signed_header: { header } }) => {
      header.app_hash = '01';
      return true;
    },
    'a validator': ({ validator_set }) => validator_set.validators?.pop(),
    'a power': ({ validator_set }) => {
      const member = validator_set.validators?.[0];
      if (member !== undefined) member.voting_power = '51';
      return member;
    },
    'a next validator': ({ next_validator_set }) => next_validator_set.validators?.pop(),
    'no signatures': ({ signed_header: { commit } }) => {
      commit.signatures = [];
      return true;
    },
    'a time that is none': ({ signed_header: { header } }) => {
      header.time = 'yesterday';
      return true;
    },
  };
  for (const [name, forge] of Object.entries(FORGERIES)) {
    test(`forged: ${name}, in every case`, async () => {
      let forged = 0;
      for (const path of cases.filter((path) => !path.includes('MC100'))) {
        const given = readCase(path);
        for (const [index, { verdict }] of given.input.entries()) {
          if (verdict === 'INVALID') continue;
          const copy = structuredClone(given);
          copy.input.length = index + 1;
          if (forge(copy.input[index].block) === undefined) continue;
          copy.input[index].verdict = 'INVALID';
          const result = await replayLightClient(path, copy);
          assert.equal(result?.mismatches, [], path);
          forged += 1;
        }
      }
      assert.ok(forged > 40, `${forged} forged`);
    });
  }

  test('bisection over the blocks of a case, from its first to its last', async () => {
    const { initial, input } = readCase('light-client/single_step/MC4_4_faulty_Test2NotEnoughTrustSuccess.json');
    const start = { ...initial, validator_set: setWithHash(initial.signed_header.header.validators_hash, input) };
    const [, , second, fourth] = input.map(({ block }: Json) => block);
    const replay = async (blocks: unknown[], expected_output: string | null, now = '1970-01-01T00:23:20Z') => {
      const trust_level = { numerator: '1', denominator: '3' };
      const value = {
        trust_options: { period: initial.trusting_period, height: '1', trust_level },
        primary: { chain_id: 'test-chain', lite_blocks: [start, ...blocks] },
        witnesses: [],
        height_to_verify: '4',
        now,
        expected_output,
      };
      return (await replayLightClient('', value))?.mismatches;
    };
    assert.equal(await replay([second, fourth], null), []);
    assert.equal(await replay([fourth], 'error'), []);
    assert.equal(await replay([second, fourth], 'error', '1970-01-01T00:23:21Z'), []);
  });
}

// biome-ignore lint/suspicious/noExplicitAny: parsed JSON, changed at will
type Json = any;

const readCase = (path: string): Json => JSON.parse(readFileSync(resolve(folder, path), 'utf8'));

function flipped(base64: string): string {
  const bytes = Buffer.from(base64, 'base64');
  bytes[9] ^= 4;
  return bytes.toString('base64');
}

/** The set with a hash, from wherever a case has it. */
function setWithHash(hash: string, input: Json[]): Json {
  for (const { block } of input) {
    if (block.signed_header.header.validators_hash === hash) return block.validator_set;
    if (block.signed_header.header.next_validators_hash === hash) return block.next_validator_set;
  }
  return undefined;
}

test.run();
