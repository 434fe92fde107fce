import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { LedgerState } from '../../node/ledger/state.ts';
import { whileState } from '../../roles/replica/training-ledger.ts';

/** A ledger whose state is a height. */
function ledger() {
  const listeners = new Set<() => void>();
  let height = 1;
  return {
    listeners,
    get state() {
      return { height } as LedgerState;
    },
    onBlock(listener: () => void) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    block() {
      height += 1;
      for (const listener of [...listeners]) listener();
    },
  };
}

const endless = (signal: AbortSignal) =>
  new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    if (signal.aborted) reject(signal.reason);
  });

const below = (limit: number) => (state: LedgerState) => state.height < limit;

test('work is cut short when the condition ends, and leaves no listener', async () => {
  const chain = ledger();
  const { signal } = new AbortController();
  const cut = whileState(chain, below(3), endless, { signal });
  chain.block();
  assert.is(chain.listeners.size, 1);
  chain.block();
  assert.is(await cut, undefined);
  assert.is(chain.listeners.size, 0);
  assert.is(await whileState(chain, below(3), endless, { signal }), undefined);
});

test('work that ends in time gives its result, and its own failures are thrown', async () => {
  const chain = ledger();
  const { signal } = new AbortController();
  assert.is(await whileState(chain, below(9), async () => 'done', { signal }), 'done');
  try {
    await whileState(
      chain,
      below(9),
      async () => {
        throw new Error('own');
      },
      { signal },
    );
    assert.unreachable();
  } catch (error) {
    assert.is((error as Error).message, 'own');
  }
  assert.is(chain.listeners.size, 0);
});

test('an abort from outside is no end of the condition', async () => {
  const chain = ledger();
  const outside = new AbortController();
  const cut = whileState(chain, below(9), endless, { signal: outside.signal });
  outside.abort(new Error('stop'));
  try {
    await cut;
    assert.unreachable();
  } catch (error) {
    assert.is((error as Error).message, 'stop');
  }
  assert.is(chain.listeners.size, 0);
});

test.run();
