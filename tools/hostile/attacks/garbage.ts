import { TOPICS } from '../../../node/network/interface.ts';
import type { Attack } from '../attack.ts';
import { crowd, gossipCrowd, keep } from '../attacker/crowd.ts';
import { encodeRpc } from '../attacker/gossip-peer.ts';
import { delimited } from '../attacker/protobuf.ts';
import { pushAll } from '../attacker/raw-peer.ts';
import { libp2pProtocols, servedProtocols } from '../attacker/served-protocols.ts';

/** Bytes that mean nothing, and bytes that stop short of meaning something, wherever bytes are taken. */
export const garbage: Attack = {
  name: 'garbage',
  what: 'random bytes and truncated valid messages on every protocol and topic',
  answers: 'garbage on each protocol',
  quick: true,
  async run(context) {
    const { victim, cid, networkName, random } = context;
    const [requester, framer] = await crowd(context, 2);
    const [gossip] = await gossipCrowd(context, 1);
    if (requester === undefined || framer === undefined || gossip === undefined) throw new Error('no peers');
    /** What other peers are told, to be sent on in pieces. */
    const heard: Uint8Array[] = [];
    gossip.onMessage(({ data }) => {
      if (data !== undefined && heard.length < 64) heard.push(data);
    });
    let sent = 0;
    const nonsense = (valid: Uint8Array) => {
      const kind = random.below(3);
      if (kind === 0) return random.bytes(random.below(2_000));
      if (kind === 1) return valid.subarray(0, random.below(valid.length + 1));
      const changed = Buffer.from(valid);
      if (changed.length > 0) changed[random.below(changed.length)] = random.below(256);
      return changed;
    };
    await Promise.all([
      keep(context, async () => {
        const { name, request } = random.pick(servedProtocols(cid));
        const stream = await requester.openRequest(victim.address, name);
        const body = nonsense(request);
        const header = Buffer.alloc(4);
        header.writeUInt32BE(random.below(2) === 0 ? body.length : random.below(2 ** 31));
        await pushAll(stream, random.below(4) === 0 ? body : Buffer.concat([header, body]));
        sent += 1;
        await stream.close({ signal: AbortSignal.timeout(500) }).catch(() => {});
        stream.abort(new Error('over'));
      }),
      keep(context, async () => {
        const stream = await framer.open(victim.address, random.pick(libp2pProtocols(networkName)));
        const body = nonsense(random.bytes(200));
        await pushAll(stream, random.below(2) === 0 ? body : delimited(body));
        sent += 1;
        stream.abort(new Error('over'));
      }),
      keep(context, async () => {
        const valid = heard.length === 0 ? random.bytes(100) : random.pick(heard);
        const message = await gossip.message(random.pick(TOPICS), nonsense(valid));
        const rpc = encodeRpc({ messages: [message] });
        // Sometimes the RPC itself is nonsense.
        const whole = random.below(10) === 0 ? delimited(nonsense(rpc)) : rpc;
        if (!(await gossip.sendBytes(whole))) throw new Error('cut');
        sent += 1;
      }),
    ]);
    return [{ what: 'garbage was sent', holds: sent > 0, found: `${sent} pieces` }];
  },
};
