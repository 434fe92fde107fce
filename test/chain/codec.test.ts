/** Lists in bytes from strangers. */

import { Bytes, compact, Vector as ScaleVector, Struct, u8, u16 } from 'scale-ts';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { decodeCommit, decodeProposal } from '../../node/chain/block.ts';
import { DecodeError, decodeStrict, Vector } from '../../node/chain/codec.ts';

test('lists are written as the codec writes them, and read back', () => {
  const item = Struct({ a: u16, b: Bytes() });
  const items = Array.from({ length: 70 }, (_, i) => ({ a: i, b: new Uint8Array(i) }));
  const bytes = Vector(item).enc(items);
  assert.equal(bytes, ScaleVector(item).enc(items));
  assert.equal(decodeStrict(Vector(item), bytes, 1 << 20, 'list'), items);
  const nested = Struct({ first: Vector(u8), second: Vector(Vector(u8)) });
  const value = { first: [1, 2], second: [[], [3], [4, 5]] };
  assert.equal(decodeStrict(nested, nested.enc(value), 1 << 20, 'lists'), value);
});

test('a list that announces more than there is takes no memory', () => {
  for (const count of [3, 100, 2 ** 25, 2 ** 29, 2 ** 40]) {
    const bytes = Buffer.concat([compact.enc(count), Uint8Array.of(1, 2)]);
    const before = process.memoryUsage().heapUsed;
    for (let i = 0; i < 10; i++) {
      assert.throws(
        () => decodeStrict(Vector(u8), bytes, 100, 'list'),
        (error: unknown) => error instanceof DecodeError,
      );
    }
    assert.ok(process.memoryUsage().heapUsed - before < 4e6, `${count}`);
  }
});

test('nor do the commits and proposals that carry lists', () => {
  // Height, round, block id, then a list of 2^29 signatures that are not there: 44 bytes once took 256 MB.
  const bytes = Buffer.concat([new Uint8Array(40), compact.enc(2 ** 29)]);
  const before = process.memoryUsage().heapUsed;
  for (const decode of [decodeCommit, decodeProposal]) {
    assert.throws(
      () => decode(bytes),
      (error: unknown) => error instanceof DecodeError,
    );
  }
  assert.ok(process.memoryUsage().heapUsed - before < 4e6);
});

test.run();
