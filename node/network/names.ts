/**
 * Names on the wire. `<network>` is in every one of them, so that networks never mix (DESIGN 4).
 */
import { createHash } from 'node:crypto';
import { CID } from 'multiformats/cid';
import { create as multihash } from 'multiformats/hashes/digest';
import { InvalidCidError, InvalidNetworkOptionError } from './errors.ts';
import type { Topic } from './interface.ts';

/** Multicodec of sha2-256. */
const SHA2_256 = 0x12;

/** Multicodec of "raw bytes". */
const RAW = 0x55;

/** Throws unless the name can stand inside a protocol id. */
export function checkNetworkName(name: string): void {
  if (!/^[a-z0-9][a-z0-9-]{0,62}$/.test(name)) {
    throw new InvalidNetworkOptionError(`not a network name (a-z, 0-9, "-", at most 63): "${name.slice(0, 80)}"`);
  }
}

/** Id of a request/response protocol. */
export function protocolId(network: string, name: string): string {
  return `/alice/${network}/${name}/1`;
}

/** Id of the DHT protocol. */
export function dhtProtocolId(network: string): string {
  return `/alice/${network}/kad/1.0.0`;
}

/** Prefix of libp2p's own small protocols: `/alice/<network>/id/1.0.0`, `.../ping/1.0.0`. */
export function libp2pProtocolPrefix(network: string): string {
  return `alice/${network}`;
}

/** Name of a gossip topic on the wire. */
export function topicName(network: string, topic: Topic): string {
  return `/alice/${network}/${topic}/1`;
}

/**
 * Mixed into the noise handshake: peers of different networks cannot even finish the handshake. So a wrong bootstrap
 * address costs nothing but failed dials.
 */
export function handshakePrologue(network: string): Uint8Array {
  return new TextEncoder().encode(`alice/${network}`);
}

/** CIDv1 (raw, sha2-256) of a 32-byte digest. */
export function cidFromDigest(digest: Uint8Array): CID {
  return CID.createV1(RAW, multihash(SHA2_256, digest));
}

/** Reads a CIDv1 (raw, sha2-256). Throws {@link InvalidCidError}. */
export function parseCid(text: string): CID {
  let cid: CID;
  try {
    cid = CID.parse(text);
  } catch (cause) {
    throw new InvalidCidError(`not a CID: "${String(text).slice(0, 80)}"`, { cause });
  }
  if (cid.version !== 1 || cid.code !== RAW || cid.multihash.code !== SHA2_256 || cid.multihash.size !== 32) {
    throw new InvalidCidError(`not a CIDv1 with raw codec and sha2-256: "${text.slice(0, 80)}"`);
  }
  return cid;
}

/** The DHT key under which the members of a network announce themselves. */
export function rendezvousCid(network: string): CID {
  return cidFromDigest(createHash('sha256').update(`alice/rendezvous/1/${network}`).digest());
}
