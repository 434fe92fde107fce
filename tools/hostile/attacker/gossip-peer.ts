/**
 * Gossip on the wire, without gossipsub: RPCs are put together by hand, so that everything that gossipsub would never
 * send can be sent.
 */
import { randomBytes } from 'node:crypto';
import { RPC } from '@libp2p/gossipsub/message';
import type { Stream } from '@libp2p/interface';
import { TOPICS, type Topic } from '../../../node/network/interface.ts';
import { topicName } from '../../../node/network/names.ts';
import { gossipSettings } from '../../../node/network/settings.ts';
import { DelimitedReader, delimited } from './protobuf.ts';
import { pushAll, RawPeer, type RawPeerOptions } from './raw-peer.ts';

/** The version of gossipsub that it speaks. */
export const GOSSIP_PROTOCOL = '/meshsub/1.1.0';

const SIGN_PREFIX = Buffer.from('libp2p-pubsub:');

/** An RPC of which only some parts are there. */
export interface PartialRpc {
  readonly subscriptions?: RPC.SubOpts[];
  readonly messages?: RPC.Message[];
  readonly control?: Partial<RPC.ControlMessage>;
}

/** Wire form of an RPC, with its length. */
export function encodeRpc({ subscriptions = [], messages = [], control }: PartialRpc): Uint8Array {
  const empty: RPC.ControlMessage = { ihave: [], iwant: [], graft: [], prune: [], idontwant: [] };
  return delimited(
    RPC.encode({ subscriptions, messages, ...(control !== undefined && { control: { ...empty, ...control } }) }),
  );
}

/** Who hears what the node passes on. */
interface Ear {
  listener: ((message: RPC.Message) => void) | undefined;
}

/** See the head of this file. */
export class GossipPeer {
  readonly peer: RawPeer;
  readonly #address: string;
  readonly #stream: Stream;
  readonly #received: Ear;

  private constructor(peer: RawPeer, address: string, stream: Stream, received: Ear) {
    this.peer = peer;
    this.#address = address;
    this.#stream = stream;
    this.#received = received;
  }

  /** Joins a node's gossip: subscribed to all topics and in their meshes, as far as the node lets it. */
  static async join(address: string, options: RawPeerOptions): Promise<GossipPeer> {
    const received: Ear = { listener: undefined };
    const take = (stream: Stream) => {
      const reader = new DelimitedReader();
      stream.addEventListener('message', ({ data }) => {
        for (const message of reader.take(data instanceof Uint8Array ? data : data.subarray())) {
          try {
            for (const item of RPC.decode(message).messages) received.listener?.(item);
          } catch {
            // What the other side says is of no interest then.
          }
        }
      });
    };
    const peer = await RawPeer.start({ ...options, serves: { ...options.serves, [GOSSIP_PROTOCOL]: take } });
    try {
      const stream = await peer.open(address, GOSSIP_PROTOCOL);
      const gossip = new GossipPeer(peer, address, stream, received);
      const names = TOPICS.map((topic) => topicName(options.networkName, topic));
      await gossip.send({ subscriptions: names.map((topic) => ({ subscribe: true, topic })) });
      await gossip.send({ control: { graft: names.map((topicID) => ({ topicID })) } });
      return gossip;
    } catch (error) {
      await peer.stop();
      throw error;
    }
  }

  /** Calls back for each message that the node passes on. */
  onMessage(listener: (message: RPC.Message) => void): void {
    this.#received.listener = listener;
  }

  /** True while the node lets it send. */
  get open(): boolean {
    return this.#stream.status === 'open';
  }

  /** Sends an RPC, waiting for room; false when the node has ended the stream. */
  send(rpc: PartialRpc): Promise<boolean> {
    return this.sendBytes(encodeRpc(rpc));
  }

  /** Sends any bytes. */
  sendBytes(bytes: Uint8Array): Promise<boolean> {
    return pushAll(this.#stream, bytes);
  }

  /** A message with or without a signature, as the network's gossip wants it; its data may be anything. */
  async message(topic: Topic, data: Uint8Array): Promise<RPC.Message> {
    const { globalSignaturePolicy } = gossipSettings(this.peer.networkName, 1);
    if (globalSignaturePolicy === 'StrictNoSign') return { topic: topicName(this.peer.networkName, topic), data };
    const from = this.peer.libp2p.peerId.toMultihash().bytes;
    const unsigned: RPC.Message = {
      from,
      data,
      seqno: new Uint8Array(randomBytes(8)),
      topic: topicName(this.peer.networkName, topic),
    };
    const signature = await this.peer.key.sign(Buffer.concat([SIGN_PREFIX, RPC.Message.encode(unsigned)]));
    return { ...unsigned, signature };
  }

  /** Sends one message. */
  async publish(topic: Topic, data: Uint8Array): Promise<boolean> {
    return this.send({ messages: [await this.message(topic, data)] });
  }

  /** The node's address. */
  get address(): string {
    return this.#address;
  }

  stop(): Promise<void> {
    return this.peer.stop();
  }
}
