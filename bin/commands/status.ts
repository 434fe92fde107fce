/** `alice status`: what running nodes do, and what they earned for what. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { askNode, findEndpoints } from '../../node/api/client.ts';
import type { NodeStatus } from '../../node/api/status.ts';
import { formatAmount } from '../../node/chain/amount.ts';

function describe(status: NodeStatus): string[] {
  const { chain, training, account, work } = status;
  const last = training.rounds.at(-1);
  const own = last?.submissions.find(({ address }) => address === status.address);
  const loss = last === undefined || last.heldOutLoss === null ? '-' : `${last.heldOutLoss.toFixed(3)} nats`;
  const reward = account.lastReward;
  return [
    `${status.name} (${status.role}, process ${status.pid})`,
    `  address   ${status.address}`,
    `  chain     height ${chain.height}, state root ${chain.stateRoot.slice(0, 16)}, ${chain.epochs} epochs, ${chain.waitingTransactions} transactions waiting`,
    `  training  round ${training.round} (${training.phase}, ${training.seats} seats, ${training.waitingForSeats} in line), held-out loss ${loss}, weights of round ${training.weightsRound ?? '-'}`,
    `  now       ${work.activity}${work.tokensPerSecond === null ? '' : `, ${Math.round(work.tokensPerSecond)} tokens/s`}`,
    `  network   ${status.peers} peers, ${status.bytesSent} bytes sent, ${status.bytesReceived} received`,
    `  balance   ${formatAmount(BigInt(account.balance))} ALICE`,
    ...(reward === null
      ? []
      : [`  reward    epoch ${reward.epoch}: ${formatAmount(BigInt(reward.units))} ALICE, ${reward.reason}`]),
    ...(own === undefined || last === undefined
      ? []
      : [
          `  last      round ${last.round}: ${own.accepted ? 'accepted' : `rejected, ${own.reason}`}, score ${own.score ?? '-'}`,
        ]),
  ];
}

export function addStatusCommand(program: Command): void {
  program
    .command('status')
    .description('show what the running nodes of a data folder do')
    .option('--dir <folder>', "a node's data folder, or that of a local network", 'alice-data')
    .option('--json', 'print one JSON array')
    .action(async (options: { dir: string; json?: boolean }) => {
      const endpoints = await findEndpoints(resolve(options.dir));
      const answers = await Promise.allSettled(endpoints.map((endpoint) => askNode<NodeStatus>(endpoint, '/status')));
      const statuses = answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value] : []));
      const failures = answers.flatMap((answer) => (answer.status === 'rejected' ? [answer.reason] : []));
      // One node that does not answer hides nothing of the others.
      if (statuses.length === 0) throw failures[0];
      for (const failure of failures) process.stderr.write(`alice: ${(failure as Error).message}\n`);
      const text = options.json
        ? JSON.stringify(statuses)
        : statuses.map((status) => describe(status).join('\n')).join('\n\n');
      process.stdout.write(`${text}\n`);
    });
}
