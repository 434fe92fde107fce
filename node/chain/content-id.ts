/**
 * The one spelling of a blob's name on the ledger: CIDv1, codec raw, sha2-256, in lower-case base32 (`bafkrei...`).
 *
 * A CID can be written in a dozen bases, with other codecs and hashes. Where equal content may have two names, a copy is
 * not seen to be one, and who compares names as text takes a right answer for a wrong one.
 */

/**
 * 59 characters: the `b` of base32, then 36 bytes, 5 bits a character: 0x01 0x55 0x12 0x20 and the digest. The header's 32
 * bits fill six characters and leave two bits, zeros, for the seventh; the last character holds three bits of the digest
 * and two bits of padding, which are zero.
 */
const CONTENT_ID = /^bafkrei[a-h][a-z2-7]{50}[aeimquy4]$/;

/** True for the canonical text of a blob's CID; it need not be that of a blob that exists. */
export function isContentId(text: string): boolean {
  return CONTENT_ID.test(text);
}
