/** JSON-RPC 2.0 over HTTP: `POST /rpc`, single calls and small batches. */
import type { FastifyInstance } from 'fastify';
import { JSONRPCErrorCode, JSONRPCErrorException, type JSONRPCRequest, JSONRPCServer } from 'json-rpc-2.0';
import * as v from 'valibot';
import { MAX_TRANSACTION_BYTES } from '../../chain/transaction.ts';
import { RPC_METHODS, type RpcContext } from './methods.ts';

/** Calls in one request: a batch saves round trips, it is no way around limits. */
const MAX_BATCH = 20;

/** A transaction as hex, and what is around it. */
const MAX_BODY_BYTES = 2 * MAX_TRANSACTION_BYTES + 4096;

/** Code of an error that a method threw on purpose; `data.code` says which. */
export const CALL_FAILED = -32000;

/** Where unexpected errors go: a client is told that there was one, and no more. */
export interface RpcLog {
  error(details: object, message: string): void;
}

/** Adds the route. */
export function addJsonRpc(server: FastifyInstance, context: RpcContext, log: RpcLog): void {
  // Errors are turned into answers below; the library would print them.
  const rpc = new JSONRPCServer({ errorListener: () => undefined });
  for (const [name, method] of Object.entries(RPC_METHODS)) {
    rpc.addMethod(name, async (params: unknown) => {
      try {
        return await method.call(context, params);
      } catch (error) {
        throw answerOf(error, name, log);
      }
    });
  }
  server.post('/rpc', { bodyLimit: MAX_BODY_BYTES }, async (request, reply) => {
    const { body } = request;
    if (typeof body !== 'object' || body === null || (Array.isArray(body) && body.length > MAX_BATCH)) {
      return reply.code(400).send({
        jsonrpc: '2.0',
        id: null,
        error: {
          code: JSONRPCErrorCode.InvalidRequest,
          message: `expected a JSON-RPC 2.0 request as application/json, or at most ${MAX_BATCH} in an array`,
        },
      });
    }
    const answer = await rpc.receive(body as JSONRPCRequest);
    return answer === null ? reply.code(204).send() : reply.send(answer);
  });
}

function answerOf(error: unknown, method: string, log: RpcLog): JSONRPCErrorException {
  if (v.isValiError(error)) {
    const [issue] = error.issues;
    const path = v.getDotPath(issue) ?? 'params';
    return new JSONRPCErrorException(`${path}: ${issue.message}`, JSONRPCErrorCode.InvalidParams);
  }
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') {
    return new JSONRPCErrorException(error.message, CALL_FAILED, { code: error.code });
  }
  log.error({ err: error, method }, 'a JSON-RPC method failed');
  return new JSONRPCErrorException('internal error', JSONRPCErrorCode.InternalError);
}
