/**
 * Events as they happen: a WebSocket at `/events?types=a,b&after=HEIGHT:POSITION`. First what came after the cursor, then
 * what comes; every message is one event as JSON with its cursor. A client that reads too slowly is dropped, not waited
 * for: it comes back with its last cursor and has missed nothing.
 */
import websocket from '@fastify/websocket';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { WebSocket } from 'ws';
import { type EventCursor, formatCursor, InvalidCursorError, parseCursor } from '../../store/event-log.ts';
import type { ChainView } from './chain-view.ts';

/** Clients at a time. */
const MAX_SUBSCRIBERS = 64;

/** Bytes that may wait for one client. */
const MAX_WAITING_BYTES = 1024 * 1024;

/** Events sent between two turns of the event loop while a client catches up. */
const EVENTS_PER_TURN = 200;

/** Clients have nothing to say; what they send is dropped unread beyond this size. */
const MAX_INCOMING_BYTES = 1024;

/** Close codes of RFC 6455: the client did wrong; try again later. */
const POLICY_VIOLATION = 1008;
const TRY_AGAIN_LATER = 1013;

/** Adds the route, with the plugin that it needs. Await before other routes are added. */
export async function addEventStream(server: FastifyInstance, chain: ChainView): Promise<void> {
  const subscribers = new Set<WebSocket>();
  await server.register(websocket, { options: { maxPayload: MAX_INCOMING_BYTES } });
  server.get('/events', { websocket: true }, (socket, request) => {
    const problem = refusal(request, subscribers.size);
    if (problem !== undefined) {
      socket.close(problem.code, problem.reason);
      return;
    }
    subscribers.add(socket);
    const stop = subscribe(socket, request, chain);
    socket.once('close', () => {
      stop();
      subscribers.delete(socket);
    });
    socket.on('error', () => socket.terminate());
  });
}

/**
 * A page of some web site must not read a node of its visitor: browsers name the page's origin, programs name none.
 */
function refusal(request: FastifyRequest, subscribers: number): { code: number; reason: string } | undefined {
  const { origin } = request.headers;
  if (origin !== undefined && URL.parse(origin)?.host !== request.headers.host)
    return { code: POLICY_VIOLATION, reason: 'not for pages of another origin' };
  if (subscribers >= MAX_SUBSCRIBERS) return { code: TRY_AGAIN_LATER, reason: 'too many subscribers' };
  return undefined;
}

function parameterOf(request: FastifyRequest, name: string): string | undefined {
  const value = (request.query as Record<string, unknown>)[name];
  return typeof value === 'string' && value !== '' ? value : undefined;
}

/** Sends events until the returned function is called or the socket closes. */
function subscribe(socket: WebSocket, request: FastifyRequest, chain: ChainView): () => void {
  const types = parameterOf(request, 'types')?.split(',').slice(0, MAX_SUBSCRIBERS);
  let cursor: EventCursor;
  try {
    const after = parameterOf(request, 'after');
    cursor = after === undefined ? chain.lastEvent : parseCursor(after);
  } catch (error) {
    if (!(error instanceof InvalidCursorError)) throw error;
    socket.close(POLICY_VIOLATION, error.message);
    return () => undefined;
  }
  let stopped = false;
  let scheduled: NodeJS.Immediate | undefined;
  const send = () => {
    scheduled = undefined;
    if (stopped) return;
    let events: ReturnType<ChainView['events']>;
    try {
      events = chain.events({ after: cursor, limit: EVENTS_PER_TURN, ...(types && { types }) });
    } catch (error) {
      socket.close(POLICY_VIOLATION, (error as Error).message.slice(0, 120));
      return;
    }
    for (const event of events) {
      socket.send(`${JSON.stringify({ cursor: formatCursor(event), ...(JSON.parse(event.body) as object) })}`);
      cursor = event;
    }
    if (socket.bufferedAmount > MAX_WAITING_BYTES) {
      socket.close(TRY_AGAIN_LATER, `too slow; go on after ${formatCursor(cursor)}`);
      return;
    }
    if (events.length === EVENTS_PER_TURN) schedule();
    // What the filter left out need not be looked at again.
    else cursor = chain.lastEvent;
  };
  const schedule = () => {
    scheduled ??= setImmediate(send);
  };
  const unsubscribe = chain.onBlock(schedule);
  schedule();
  return () => {
    stopped = true;
    if (scheduled !== undefined) clearImmediate(scheduled);
    unsubscribe();
  };
}
