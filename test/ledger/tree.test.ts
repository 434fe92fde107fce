import { createHash } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { domainHash } from '../../node/chain/hash.ts';
import {
  decodeProof,
  encodeProof,
  InvalidProofError,
  prove,
  type StateProof,
  verifyProof,
} from '../../node/ledger/proof.ts';
import { StateTree } from '../../node/ledger/tree.ts';
import { Random } from './random.ts';

/** The root by its definition, from scratch, in the plainest way: the reference for the tree. */
function referenceRoot(entries: ReadonlyMap<string, Uint8Array>): string {
  const sha = (...parts: Uint8Array[]) => createHash('sha256').update(Buffer.concat(parts)).digest();
  const leaves = [...entries].map(([key, value]) => ({ path: sha(Buffer.from(key)), value }));
  const bits = (path: Buffer) => [...path].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  const subtree = (list: { path: Buffer; value: Uint8Array }[], depth: number): Buffer => {
    if (list.length === 0) return Buffer.alloc(32);
    if (list.length === 1) return sha(Uint8Array.of(0), list[0].path, sha(list[0].value));
    const half = (bit: string) =>
      subtree(
        list.filter(({ path }) => bits(path)[depth] === bit),
        depth + 1,
      );
    return sha(Uint8Array.of(1), half('0'), half('1'));
  };
  return subtree(leaves, 0).toString('hex');
}

test('the root is what its definition says, for trees of 0 to 200 entries', () => {
  const random = new Random(1);
  for (const size of [0, 1, 2, 3, 5, 17, 64, 200]) {
    const entries = new Map(
      Array.from({ length: size }, (_, index) => [`key ${index}`, random.bytes(random.below(50))]),
    );
    assert.is(StateTree.empty.with(entries).root, referenceRoot(entries), `${size} entries`);
  }
});

test('30,000 random sets, overwrites and removals: the root depends on the entries alone', () => {
  const random = new Random(2);
  const model = new Map<string, Uint8Array>();
  let tree = StateTree.empty;
  const versions: { tree: StateTree; root: string; sample: [string, Uint8Array | undefined] }[] = [];
  for (let batch = 0; batch < 300; batch++) {
    const changes = new Map<string, Uint8Array | undefined>();
    for (let change = 0; change < 100; change++) {
      const key = `key ${random.below(1500)}`;
      changes.set(key, random.chance(45) ? undefined : random.bytes(random.below(40)));
    }
    for (const [key, value] of changes) {
      if (value === undefined) model.delete(key);
      else model.set(key, value);
    }
    tree = tree.with(random.shuffled([...changes]));
    if (batch % 30 === 0) {
      assert.is(tree.root, StateTree.empty.with(random.shuffled([...model])).root);
      let single = StateTree.empty;
      for (const entry of random.shuffled([...model])) single = single.with([entry]);
      assert.is(tree.root, single.root);
      const key = `key ${random.below(1500)}`;
      versions.push({ tree, root: tree.root, sample: [key, model.get(key)] });
    }
  }
  assert.is(tree.root, referenceRoot(model));
  assert.equal(new Map([...tree.entries()].sort()), new Map([...model].sort()));
  // Later changes left the earlier versions alone.
  for (const version of versions) {
    assert.is(version.tree.root, version.root);
    assert.equal(version.tree.get(version.sample[0]), version.sample[1]);
  }
  assert.is(tree.with([...model.keys()].map((key) => [key, undefined] as const)).root, StateTree.empty.root);
});

test('setting what is there already gives the very same tree', () => {
  const tree = StateTree.empty.with([
    ['a', Uint8Array.of(1)],
    ['b', Uint8Array.of(2)],
  ]);
  assert.is(tree.with([['a', Uint8Array.of(1)]]), tree);
  assert.is(tree.with([['c', undefined]]), tree);
  assert.throws(() =>
    tree.with([
      ['c', Uint8Array.of(1)],
      ['c', Uint8Array.of(2)],
    ]),
  );
});

test('an update hashes only what changed', () => {
  const entries = Array.from({ length: 4096 }, (_, index) => [`key ${index}`, Uint8Array.of(1)] as const);
  const tree = StateTree.empty.with(entries);
  void tree.root;
  const next = tree.with([['key 7', Uint8Array.of(2)]]);
  let unhashed = 0;
  const walk = (node: typeof next.top): void => {
    if (node === undefined || node.hash !== undefined) return;
    unhashed += 1;
    if (node.kind === 'inner') {
      walk(node.left);
      walk(node.right);
    }
  };
  walk(next.top);
  assert.ok(unhashed > 0 && unhashed < 40, `${unhashed} nodes to hash`);
});

test('proofs verify for every key, present and absent, and through their encoding', () => {
  const random = new Random(3);
  for (const size of [0, 1, 2, 100, 1000]) {
    const entries = new Map(Array.from({ length: size }, (_, index) => [`key ${index}`, random.bytes(20)]));
    const tree = StateTree.empty.with(entries);
    for (let index = 0; index < Math.min(size, 200); index++) {
      const proof = decodeProof(encodeProof(prove(tree, `key ${index}`)));
      assert.equal(verifyProof(tree.root, `key ${index}`, proof), entries.get(`key ${index}`));
      const absent = decodeProof(encodeProof(prove(tree, `absent ${index}`)));
      assert.is(verifyProof(tree.root, `absent ${index}`, absent), undefined);
    }
  }
});

test('a changed proof, value, key or root never verifies', () => {
  const random = new Random(4);
  const entries = Array.from({ length: 300 }, (_, index) => [`key ${index}`, random.bytes(20)] as const);
  const tree = StateTree.empty.with(entries);
  let forgeries = 0;
  const refused = (key: string, proof: StateProof, root = tree.root) => {
    forgeries += 1;
    assert.throws(
      () => verifyProof(root, key, proof),
      (error: unknown) => error instanceof InvalidProofError,
    );
  };
  for (let index = 0; index < 150; index++) {
    const key = `key ${index}`;
    const absentKey = `absent ${index}`;
    const member = prove(tree, key);
    const absence = prove(tree, absentKey);
    refused(key, { ...member, end: { tag: 'value', value: random.bytes(20) } });
    refused(key, { ...member, end: { tag: 'nothing', value: undefined } });
    refused(absentKey, { ...absence, end: { tag: 'value', value: random.bytes(20) } });
    refused(`key ${index + 1}`, member);
    refused(key, absence);
    refused(key, member, domainHash('x', Uint8Array.of(index)));
    refused(key, { ...member, siblings: member.siblings.slice(1) });
    refused(key, { ...member, siblings: member.siblings.slice(0, -1) });
    refused(key, { ...member, siblings: [...member.siblings, undefined] });
    const at = random.below(member.siblings.length);
    const siblings = member.siblings.map((sibling, depth) =>
      depth === at ? domainHash('y', Uint8Array.of(at)) : sibling,
    );
    refused(key, { ...member, siblings });
    // The entry next to a present key, claimed to stand in its way.
    const other = prove(tree, `key ${index + 1}`);
    if (other.end.tag === 'value') {
      const path = createHash('sha256')
        .update(`key ${index + 1}`)
        .digest('hex') as never;
      const valueDigest = createHash('sha256').update(other.end.value).digest('hex') as never;
      refused(key, { siblings: other.siblings, end: { tag: 'other', value: { path, valueDigest } } });
    }
    // The key's own entry, claimed to be another one: its hashes all fit.
    if (member.end.tag === 'value') {
      const path = createHash('sha256').update(key).digest('hex') as never;
      const valueDigest = createHash('sha256').update(member.end.value).digest('hex') as never;
      refused(key, { siblings: member.siblings, end: { tag: 'other', value: { path, valueDigest } } });
    }
  }
  assert.ok(forgeries > 1500);
  refused('key 0', {
    siblings: Array.from({ length: 257 }, () => undefined),
    end: { tag: 'nothing', value: undefined },
  });
});

test.run();
