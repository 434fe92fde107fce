/** How what is scarce is shared out, without any socket. */
import { multiaddr } from '@multiformats/multiaddr';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type AddressGroup, addressGroup } from '../../node/network/address-group.ts';
import { type Claimant, FairShare } from '../../node/network/fair-share.ts';
import { ANSWER_BYTES, HeldAnswers } from '../../node/network/held-answers.ts';
import type { PeerIdText } from '../../node/network/interface.ts';
import { PeerStandings } from '../../node/network/peer-standings.ts';
import { ReadingRoom } from '../../node/network/reading-room.ts';

const MIB = 1024 * 1024;

function claimant(peer: string, address?: string, known = false): Claimant {
  return { peer: peer as PeerIdText, address: address as AddressGroup | undefined, known };
}

test('addresses are grouped by host, IPv6 by /64, and local ones only on public networks', () => {
  const group = (address: string, privateNetwork = false) => addressGroup(multiaddr(address), privateNetwork);
  assert.is(group('/ip4/8.8.4.4/tcp/1'), '8.8.4.4');
  assert.is(group('/ip6/2001:db8:1:2:3:4:5:6/tcp/1'), '2001:0db8:0001:0002');
  assert.is(group('/ip6/2001:db8:1:2::9/tcp/2'), group('/ip6/2001:db8:1:2:3:4:5:6/tcp/1'));
  assert.is.not(group('/ip6/2001:db8:1:3::9/tcp/2'), group('/ip6/2001:db8:1:2::9/tcp/2'));
  assert.is(group('/ip6/::ffff:8.8.4.4/tcp/1'), '8.8.4.4');
  for (const local of ['/ip4/127.0.0.1/tcp/1', '/ip4/192.168.1.7/tcp/1', '/ip6/::1/tcp/1', '/ip6/fd00::1/tcp/1']) {
    assert.ok(group(local) !== undefined);
    assert.is(group(local, true), undefined);
  }
  assert.is(group('/ip4/8.8.4.4/tcp/1', true), '8.8.4.4');
});

test('greedy peers leave room for those who come after them', () => {
  const share = new FairShare({ total: 96, reserved: 0, perPeer: 96, perAddress: 96 });
  // All ask for one after the other, as often as they can.
  for (let round = 0; round < 96; round++) for (const peer of ['a', 'b', 'c', 'd']) share.take(claimant(peer), 1);
  assert.ok(share.used <= 80, `${share.used} of 96 are taken`);
  assert.ok(share.take(claimant('honest'), 1));
});

test('strangers never get what is reserved, and known peers get all', () => {
  const share = new FairShare({ total: 8, reserved: 2, perPeer: 8, perAddress: 8 });
  for (let index = 0; index < 20; index++) share.take(claimant(`stranger ${index}`), 1);
  assert.is(share.used, 6);
  assert.ok(share.take(claimant('validator', undefined, true), 1));
  assert.ok(share.take(claimant('validator', undefined, true), 1));
  assert.is(share.take(claimant('validator', undefined, true), 1), undefined);
});

test('strangers of one address have one share together, known peers there are not in it', () => {
  const share = new FairShare({ total: 100, reserved: 0, perPeer: 10, perAddress: 5 });
  for (let index = 0; index < 50; index++) share.take(claimant(`flood ${index}`, '1.2.3.4'), 1);
  assert.is(share.used, 5);
  assert.ok(share.take(claimant('neighbour', '1.2.3.5'), 1));
  assert.ok(share.take(claimant('validator', '1.2.3.4', true), 1));
});

test('what is given back can be taken again, once', () => {
  const share = new FairShare({ total: 10, reserved: 0, perPeer: 10, perAddress: 10 });
  const give = share.take(claimant('a', '1.1.1.1'), 8)!;
  give(3);
  assert.is(share.used, 5);
  give();
  give();
  give(4);
  assert.is(share.used, 0);
  assert.not.ok(share.holds('a' as PeerIdText));
});

test('a silent stream makes room, first for its own peer, then that of whoever has most', () => {
  const room = new ReadingRoom();
  const ended: string[] = [];
  const enter = (peer: string, name = peer, known = false) =>
    room.enter(claimant(peer, undefined, known), () => ended.push(name));
  enter('validator', 'validator', true);
  for (let index = 0; index < 70; index++) enter('greedy', `greedy ${index}`);
  assert.is(ended.length, 6, 'no more than 64 of one peer');
  for (let index = 0; index < 447; index++) enter(`stranger ${index}`);
  assert.is(room.size, 512);
  assert.is(ended.length, 6);
  enter('newcomer');
  assert.is(room.size, 512);
  assert.equal(ended.at(-1), 'greedy 6');
  for (let index = 0; index < 2_000; index++) enter(`flood ${index}`);
  assert.not.ok(ended.includes('validator'));
  const leave = enter('last');
  leave();
  leave();
  assert.is(room.size, 511);
});

test('held answers: bounded, and one that nobody reads gives way', () => {
  let now = 0;
  const held = new HeldAnswers(() => now);
  const ended: string[] = [];
  const take = (peer: string, known = false) =>
    held.hold(claimant(peer, undefined, known), MIB, () => ended.push(peer));
  for (let index = 0; index < 100; index++) take(`p${index % 50}`)?.progress();
  assert.is(held.bytes, ANSWER_BYTES.total - ANSWER_BYTES.reserved);
  assert.ok(take('validator', true));
  assert.is(take('newcomer'), undefined);
  assert.not.ok(held.endStalled(), 'all may still be reading');
  now += 3_500;
  assert.ok(held.endStalled());
  assert.is(ended.length, 1);
  const answer = take('newcomer');
  answer?.shrink(10);
  answer?.release();
  answer?.release();
  assert.is(held.bytes, ANSWER_BYTES.total - ANSWER_BYTES.reserved);
});

test('standings: validators, peers with a record, strangers; each list replaced as a whole', () => {
  const standings = new PeerStandings();
  const [a, b] = ['a', 'b'] as PeerIdText[];
  standings.setValidators([a!]);
  standings.setRecords([a!, b!]);
  assert.equal([standings.of(a!), standings.of(b!)], ['validator', 'record']);
  standings.setValidators([]);
  standings.setRecords([]);
  assert.not.ok(standings.isKnown(a!) || standings.isKnown(b!));
});

test.run();
