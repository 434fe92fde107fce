/**
 * Which peers share a machine or a household, as far as addresses tell: identities are free, addresses are not.
 */
import type { Multiaddr } from '@multiformats/multiaddr';

/** Names the holder of an address: an IPv4 address, or the /64 of an IPv6 address (one household or machine has that). */
export type AddressGroup = string & { readonly __brand: 'AddressGroup' };

/** Loopback, private and link-local addresses. */
const LOCAL =
  /^(127\.|10\.|192\.168\.|169\.254\.|172\.(1[6-9]|2\d|3[01])\.)|^(0000:0000:0000:0000:0000:0000:0000:0001$|f[cd]|fe[89ab])/;

/**
 * The group of a peer's address. Undefined where addresses tell nothing: on a private network many honest peers share a
 * local one; and for addresses that are no IP address (a relay).
 */
export function addressGroup(address: Multiaddr, privateNetwork: boolean): AddressGroup | undefined {
  const component = address.getComponents().find(({ name }) => name === 'ip4' || name === 'ip6');
  if (component?.value === undefined) return undefined;
  const full = component.name === 'ip6' ? unabridged(component.value) : component.value;
  const host = full.startsWith('0000:0000:0000:0000:0000:ffff:') ? mapped(full) : full;
  if (privateNetwork && LOCAL.test(host)) return undefined;
  return (host.includes(':') ? host.slice(0, 19) : host) as AddressGroup;
}

/** All eight groups of an IPv6 address, four digits each. */
function unabridged(text: string): string {
  const dotted = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(text);
  const hex = (value: string | undefined) => Number(value).toString(16).padStart(2, '0');
  const plain =
    dotted === null ? text : `${dotted[1]}${hex(dotted[2])}${hex(dotted[3])}:${hex(dotted[4])}${hex(dotted[5])}`;
  const [head = '', tail = ''] = plain.split('::');
  const before = head === '' ? [] : head.split(':');
  const after = tail === '' ? [] : tail.split(':');
  const zeros = Array.from({ length: Math.max(0, 8 - before.length - after.length) }, () => '0');
  return [...before, ...(plain.includes('::') ? zeros : []), ...after]
    .map((group) => group.toLowerCase().padStart(4, '0'))
    .join(':');
}

/** The IPv4 address inside an IPv4-mapped IPv6 one. */
function mapped(full: string): string {
  const digits = full.slice(30).replace(':', '');
  return [0, 2, 4, 6].map((at) => Number.parseInt(digits.slice(at, at + 2), 16)).join('.');
}
