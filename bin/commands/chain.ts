/** `alice block`, `alice tx`, `alice validators`, `alice parameters`, `alice events`: reading the chain. */
import type { Command } from 'commander';
import { callNode } from '../../node/api/client.ts';
import { wholeNumber } from '../arguments.ts';
import { addNodeOptions, inWords, type NodeFlags, nodeOf } from '../node-options.ts';
import { CheckFailedError, UsageError } from '../report-failure.ts';

interface BlockAnswer {
  readonly id: string;
  readonly height: number;
  readonly timeMs: string;
  readonly proposer: string;
  readonly previous: string;
  readonly stateRoot: string;
  readonly modelRoot: string;
  readonly trainingRound: number;
  readonly commit: { readonly round: number; readonly signers: readonly string[] };
  readonly transactions: readonly {
    readonly id: string;
    readonly signer: string;
    readonly nonce: number;
    readonly call: { readonly name: string };
  }[];
  readonly receipts: readonly { readonly error: string | null }[];
}

interface ValidatorsAnswer {
  readonly height: number;
  readonly totalPower: string;
  readonly validators: readonly { readonly address: string; readonly power: string; readonly share: number }[];
}

interface TransactionAnswer {
  readonly status: string;
  readonly receipt: {
    readonly height: number;
    readonly position: number;
    readonly signer: string;
    readonly nonce: number;
    readonly call: string;
    readonly error: string | null;
  } | null;
}

/** Prints JSON for programs, lines for people. */
function print(flags: NodeFlags, value: unknown, lines: () => readonly string[]): void {
  process.stdout.write(flags.json ? `${JSON.stringify(value)}\n` : `${lines().join('\n')}\n`);
}

function blockLines(block: BlockAnswer): string[] {
  return [
    `block      ${block.height}  ${block.id}`,
    `time       ${new Date(Number(block.timeMs)).toISOString()}`,
    `proposer   ${block.proposer}`,
    `previous   ${block.previous}`,
    `state      ${block.stateRoot}`,
    `model      ${block.modelRoot}, training round ${block.trainingRound}`,
    `commit     round ${block.commit.round}, ${block.commit.signers.length} signatures`,
    `holds      ${block.transactions.length} transactions`,
    ...block.transactions.map(({ id, signer, nonce, call }, i) => {
      const error = block.receipts[i]?.error;
      return `  ${id}  ${call.name} of ${signer}, nonce ${nonce}${error ? `, refused: ${error}` : ''}`;
    }),
  ];
}

function validatorLines({ height, totalPower, validators }: ValidatorsAnswer): string[] {
  return [
    `validators of block ${height}, total power ${totalPower}`,
    ...validators.map(
      ({ address, power, share }) => `  ${address}  ${(share * 100).toFixed(2).padStart(6)} %  ${power}`,
    ),
  ];
}

/** `block`: by height or id. */
function addBlockCommand(program: Command): void {
  addNodeOptions(
    program
      .command('block')
      .description('show a block: the last one, or that of a height or id')
      .argument('[height-or-id]', 'height, or the 64 hex digits of an id'),
  ).action(async (which: string | undefined, flags: NodeFlags) => {
    const isId = which !== undefined && /^(0x)?[0-9a-f]{64}$/i.test(which);
    if (which !== undefined && !isId && !/^\d{1,9}$/.test(which))
      throw new UsageError(`${which}: expected a height, or an id of 64 hex digits`);
    const params = which === undefined ? {} : isId ? { id: which } : { height: Number(which) };
    const block = await callNode<BlockAnswer>(await nodeOf(flags), 'block', params);
    print(flags, block, () => blockLines(block));
  });
}

function addTransactionCommand(program: Command): void {
  addNodeOptions(
    program
      .command('tx')
      .description(
        'show what became of a transaction; exit code 1 unless a block holds it and it did what it asked for',
      )
      .argument('<id>', '64 hex digits, as "alice send" prints them'),
  ).action(async (id: string, flags: NodeFlags) => {
    const answer = await callNode<TransactionAnswer>(await nodeOf(flags), 'transaction', { id });
    print(flags, { id, ...answer }, () =>
      answer.receipt === null
        ? [`${answer.status}: ${answer.status === 'waiting' ? 'no block holds it yet' : 'this node has not seen it'}`]
        : [
            `${answer.status} in block ${answer.receipt.height}, position ${answer.receipt.position}`,
            `${answer.receipt.call} of ${answer.receipt.signer}, nonce ${answer.receipt.nonce}`,
          ],
    );
    if (answer.status !== 'done')
      throw new CheckFailedError(
        `the transaction is not done: ${answer.receipt?.error ? inWords(answer.receipt.error) : answer.status}`,
      );
  });
}

function addValidatorsCommand(program: Command): void {
  addNodeOptions(
    program
      .command('validators')
      .description('show who decides blocks, and with how much power')
      .option('--height <n>', 'of that block (default: the next one)', wholeNumber(1, 2 ** 32 - 1)),
  ).action(async (flags: NodeFlags & { height?: number }) => {
    const params = flags.height === undefined ? {} : { height: flags.height };
    const answer = await callNode<ValidatorsAnswer>(await nodeOf(flags), 'validators', params);
    print(flags, answer, () => validatorLines(answer));
  });
}

function addParametersCommand(program: Command): void {
  addNodeOptions(program.command('parameters').description('show the values that the network is governed by')).action(
    async (flags: NodeFlags) => {
      const answer = await callNode<unknown>(await nodeOf(flags), 'parameters');
      print(flags, answer, () => [JSON.stringify(answer, undefined, 2)]);
    },
  );
}

function addEventsCommand(program: Command): void {
  addNodeOptions(
    program
      .command('events')
      .description('follow what blocks do, one JSON object per line, until Ctrl-C')
      .option('--types <list>', 'only these, such as transfer,roundSettled,epochSettled')
      .option('--after <cursor>', 'from that cursor on, such as 120:3 (default: from now on)'),
  ).action(async (flags: NodeFlags & { types?: string; after?: string }) => {
    const { api } = await nodeOf(flags);
    const url = new URL(`${api.replace(/^http/, 'ws')}/events`);
    if (flags.types !== undefined) url.searchParams.set('types', flags.types);
    if (flags.after !== undefined) url.searchParams.set('after', flags.after);
    const socket = new WebSocket(url);
    const { promise: closed, resolve } = Promise.withResolvers<{ code: number; reason: string }>();
    socket.addEventListener('message', ({ data }) => process.stdout.write(`${String(data)}\n`));
    socket.addEventListener('close', ({ code, reason }) => resolve({ code, reason }));
    // A close event follows every error and says more.
    socket.addEventListener('error', () => undefined);
    process.once('SIGINT', () => socket.close(1000));
    const { code, reason } = await closed;
    if (code !== 1000) throw new UsageError(`the node at ${api} ended the stream (${code}${reason && `: ${reason}`})`);
  });
}

/** Adds them all. */
export function addChainCommands(program: Command): void {
  addBlockCommand(program);
  addTransactionCommand(program);
  addValidatorsCommand(program);
  addParametersCommand(program);
  addEventsCommand(program);
}
