/**
 * Finding a running node by its data folder, and asking it.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';

/** File in a node's folder that tells where the running node listens. */
export const ENDPOINT_FILE = 'node.json';

const endpointSchema = v.object({ pid: v.number(), api: v.pipe(v.string(), v.startsWith('http://')) });

/** Where a node of a data folder listens. */
export interface Endpoint {
  readonly dir: string;
  readonly pid: number;
  /** Base address of its HTTP API. */
  readonly api: string;
}

/** Thrown when no node runs in a folder, or it does not answer. */
export class NodeUnreachableError extends Error {
  static readonly code = 'ERR_NODE_UNREACHABLE';
  readonly code = NodeUnreachableError.code;
  override readonly name = 'NodeUnreachableError';
}

/** How long a node may take to answer; its event loop is never busy for this long. */
const REQUEST_TIMEOUT_MS = 5000;

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: it runs, as another user.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

async function readEndpoint(dir: string): Promise<Endpoint | undefined> {
  try {
    const result = v.safeParse(endpointSchema, JSON.parse(await readFile(join(dir, ENDPOINT_FILE), 'utf8')));
    if (!result.success || !isAlive(result.output.pid)) return undefined;
    return { dir, ...result.output };
  } catch {
    return undefined;
  }
}

/**
 * Running nodes of a data folder: the folder itself, or its sub-folders when it holds a local network.
 * Throws {@link NodeUnreachableError} when there is none.
 */
export async function findEndpoints(dir: string): Promise<Endpoint[]> {
  const own = await readEndpoint(dir);
  if (own !== undefined) return [own];
  const entries = await readdir(dir, { withFileTypes: true }).catch(() => []);
  const found = await Promise.all(
    entries.filter((entry) => entry.isDirectory()).map((entry) => readEndpoint(join(dir, entry.name))),
  );
  const running = found.filter((endpoint) => endpoint !== undefined);
  if (running.length === 0) {
    throw new NodeUnreachableError(`no node is running in ${dir}: start one, or name its folder with --dir`);
  }
  return running.sort((a, b) => (a.dir < b.dir ? -1 : 1));
}

/** GET of a node's API. Throws {@link NodeUnreachableError}, with the node's own message where it gave one. */
export async function askNode<T>(endpoint: Endpoint, path: string): Promise<T> {
  let response: Response;
  let body: unknown;
  try {
    response = await fetch(`${endpoint.api}${path}`, { signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS) });
    body = await response.json();
  } catch (cause) {
    throw new NodeUnreachableError(`the node in ${endpoint.dir} (process ${endpoint.pid}) does not answer`, { cause });
  }
  if (!response.ok) {
    const message = v.safeParse(v.object({ error: v.string() }), body);
    throw new NodeUnreachableError(message.success ? message.output.error : `the node answered ${response.status}`);
  }
  return body as T;
}

const rpcAnswerSchema = v.union([
  v.object({ result: v.unknown() }),
  v.object({ error: v.object({ message: v.string(), data: v.optional(v.object({ code: v.optional(v.string()) })) }) }),
]);

/** Thrown when a node answers a JSON-RPC call with an error; `code` is the node's own where it gave one. */
export class CallRejectedError extends Error {
  readonly code: string;
  override readonly name = 'CallRejectedError';

  constructor(message: string, code = 'ERR_CALL_REJECTED') {
    super(message);
    this.code = code;
  }
}

/**
 * JSON-RPC call of a node (`node/api/rpc/methods.ts`). Throws {@link NodeUnreachableError} and {@link CallRejectedError}.
 */
export async function callNode<T>(
  endpoint: Pick<Endpoint, 'api'>,
  method: string,
  params: Readonly<Record<string, unknown>> = {},
  options: { readonly signal?: AbortSignal } = {},
): Promise<T> {
  let body: unknown;
  try {
    const timeout = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
    const response = await fetch(`${endpoint.api}/rpc`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
      signal: options.signal === undefined ? timeout : AbortSignal.any([options.signal, timeout]),
    });
    body = await response.json();
  } catch (cause) {
    options.signal?.throwIfAborted();
    throw new NodeUnreachableError(`no node answers at ${endpoint.api}: start it, or name another with --api`, {
      cause,
    });
  }
  const answer = v.safeParse(rpcAnswerSchema, body);
  if (!answer.success) throw new NodeUnreachableError(`${endpoint.api} is no node of Alice`);
  if ('error' in answer.output) {
    const { message, data } = answer.output.error;
    throw new CallRejectedError(message, data?.code);
  }
  return answer.output.result as T;
}

/** Like {@link askNode}, of the first node that answers. */
export async function askAny<T>(endpoints: readonly Endpoint[], path: string): Promise<T> {
  let failure: unknown = new NodeUnreachableError('there is no node to ask');
  for (const endpoint of endpoints) {
    try {
      return await askNode<T>(endpoint, path);
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
}
