/**
 * Every setting of a node, each described once. To add one, add a line here: file, environment, flags, checks and
 * `alice config show` follow from it.
 */

import { isIP } from 'node:net';
import { multiaddr } from '@multiformats/multiaddr';
import * as v from 'valibot';
import { LOG_FORMATS, LOG_LEVELS } from '../log/logger.ts';
import { choice, choiceByName, list, type Setting, text, wholeNumber } from './setting.ts';

const isMultiaddr = (given: string): boolean => {
  try {
    multiaddr(given);
    return true;
  } catch {
    return false;
  }
};

const address = v.pipe(v.string(), v.check(isMultiaddr, 'expected multiaddrs such as /ip4/0.0.0.0/tcp/4001'));

/** An address to bind: a name or number of this machine, without a port. */
const host = v.pipe(
  v.string('expected text'),
  v.check(
    (given) => isIP(given) !== 0 || /^[a-zA-Z0-9]([a-zA-Z0-9.-]{0,252})$/.test(given),
    'expected a host such as 127.0.0.1 or ::1, without a port',
  ),
);

/** A name that others see: printable, on one line, short. */
const displayName = v.pipe(
  v.string('expected text'),
  v.regex(/^[\p{L}\p{N} ._-]{0,64}$/u, 'expected at most 64 letters, digits, spaces, dots, dashes'),
);

/** An amount of memory or disk; what is read here is read again, to the byte, by whoever plans with it. */
const size = v.pipe(
  v.string('expected text'),
  v.regex(
    /^(auto|\d{1,15}(\.\d{1,6})? ?([KMGT]i?)?B)$/,
    'expected auto, or a number and one of B, KB, MB, GB, TB, KiB, MiB, GiB, TiB, such as 6GiB',
  ),
);

/** The settings, by section and name. */
export const SETTINGS = {
  dir: text({
    description: 'folder for keys, blocks, shards and weights',
    fallback: 'alice-data',
    schema: v.pipe(v.string('expected text'), v.minLength(1, 'expected the path of a folder')),
  }),
  log: {
    level: choice({ description: 'how much is logged', choices: LOG_LEVELS, fallback: 'info' }),
    components: choiceByName({
      description: 'how much single components log, such as consensus=debug,network=warn',
      choices: LOG_LEVELS,
      fallback: {},
    }),
    format: choice({
      description: 'how log lines look: JSON, text for people, or by whether they go to a terminal',
      choices: LOG_FORMATS,
      fallback: 'auto',
    }),
  },
  network: {
    listen: list({
      description: 'addresses to accept peers on; port 0 takes a free one',
      item: address,
      fallback: ['/ip4/0.0.0.0/tcp/0'],
    }),
    announce: list({
      description: 'addresses to tell peers instead of those listened on, for a node behind a forwarded port',
      item: address,
      fallback: [],
    }),
    maxPeers: wholeNumber({
      description: 'most peers to be connected to at once',
      unit: 'connections',
      low: 1,
      high: 10_000,
      // Enough for gossip meshes of every topic and the DHT's routing table, at some 100 KiB of memory a connection.
      fallback: 300,
    }),
  },
  api: {
    host: text({
      description: 'address of the HTTP interface; anything but this machine itself opens it to others',
      schema: host,
      fallback: '127.0.0.1',
    }),
    port: wholeNumber({
      description: 'port of the HTTP interface; 0 takes a free one',
      low: 0,
      high: 65_535,
      fallback: 0,
    }),
  },
  blobs: {
    capacity: text({
      description:
        'most disk for shards, submissions and checkpoints of others, such as 40GiB; auto is 8GiB and two checkpoints',
      schema: size,
      fallback: 'auto',
    }),
  },
  chain: {
    keepStates: wholeNumber({
      description: 'states before the last one that can be read and proven',
      unit: 'blocks',
      low: 1,
      high: 1_000_000,
      // What changed in each is noted on disk; long enough to fetch a whole state of some gigabytes meanwhile.
      fallback: 1024,
    }),
    keepBlocks: wholeNumber({
      description: 'blocks to keep, at least 512; 0 keeps all, which newcomers without a trusted block need',
      unit: 'blocks',
      low: 0,
      high: 2 ** 32 - 1,
      fallback: 0,
    }),
    trust: text({
      description: 'HEIGHT:HASH of a block that you trust: a node that joins far behind then fetches a recent state',
      schema: v.pipe(
        v.string('expected text'),
        v.regex(/^(\d{1,10}:[0-9a-f]{64})?$/, 'expected HEIGHT:HASH, as "alice block" shows them'),
      ),
      fallback: '',
    }),
    trustDays: wholeNumber({
      description:
        'days for which a trusted block is good, less than stake takes to leave; 0: two thirds of that time, at most 14 days',
      unit: 'days',
      low: 0,
      high: 3650,
      fallback: 0,
    }),
  },
  engine: {
    backend: choice({
      description: 'what computes: auto takes the native C++ library on the CPU where it is built, else onnxruntime',
      choices: ['auto', 'onnx', 'native'],
      fallback: 'auto',
    }),
    device: choice({
      description: 'where training and scoring compute; auto takes a GPU that works and beats the CPU',
      choices: ['auto', 'cpu', 'cuda', 'webgpu', 'directml', 'coreml'],
      fallback: 'auto',
    }),
    precision: choice({
      description: 'of training: auto takes fp16 on GPUs, bf16 on CPUs that have it; scoring is always fp32',
      choices: ['auto', 'fp32', 'fp16', 'bf16'],
      fallback: 'auto',
    }),
    threads: wholeNumber({
      description: 'threads for training and scoring; 0 takes as many as there are cores',
      unit: 'threads',
      low: 0,
      high: 1024,
      fallback: 0,
    }),
    memory: text({
      description: 'most memory for training and scoring, such as 6GiB; auto sets no limit',
      schema: size,
      fallback: 'auto',
    }),
  },
  miner: {
    name: text({ description: 'name shown beside the account', schema: displayName, fallback: '' }),
    registration: choice({
      description: 'how a registration is paid: auto has a bond held where the account owns enough; work never does',
      choices: ['auto', 'work'],
      fallback: 'auto',
    }),
  },
};

type ConfigOf<S> = S extends Setting<infer T> ? T : { readonly [K in keyof S]: ConfigOf<S[K]> };

/** A checked configuration, by section and name. */
export type Config = ConfigOf<typeof SETTINGS>;

/** Settings by dotted key, such as `log.level`, in the order above. */
export const settingsByKey: ReadonlyMap<string, Setting<unknown>> = new Map(
  Object.entries(SETTINGS).flatMap(([section, entry]) =>
    'schema' in entry
      ? [[section, entry as Setting<unknown>] as const]
      : Object.entries(entry).map(([name, setting]) => [`${section}.${name}`, setting as Setting<unknown>] as const),
  ),
);

/** The environment variable of a key: `network.maxPeers` is ALICE_NETWORK_MAX_PEERS. */
export function environmentName(key: string): string {
  return `ALICE_${key.replace(/[A-Z]/g, '_$&').replaceAll('.', '_').toUpperCase()}`;
}
