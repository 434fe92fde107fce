/**
 * The text of a libp2p peer id, as the ledger takes it: an ed25519 identity in base58, `12D3KooW...`, 52 characters.
 *
 * The id of such a peer is its public key: multihash "identity" (0x00, 36 bytes) of the key's protobuf (type ed25519, 32
 * bytes), that is 00 24 08 01 12 20 and the key. Every node of Alice has one of this kind.
 */

const ALPHABET = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz';

/** The bytes before the key, but for the first, which is zero and written as a leading `1`. */
const PREFIX = 0x2408011220n;

const SHAPE = /^12D3KooW[1-9A-HJ-NP-Za-km-z]{44}$/;

/** True for the canonical text of an ed25519 peer id. Whether its 32 bytes are a point on the curve is not looked at. */
export function isPeerIdText(text: string): boolean {
  if (!SHAPE.test(text)) return false;
  let value = 0n;
  for (const character of text.slice(1)) value = value * 58n + BigInt(ALPHABET.indexOf(character));
  // Base58 writes each number in one way, so the text is canonical if it stands for the right bytes.
  return value >> 256n === PREFIX;
}
