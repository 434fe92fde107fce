/** `alice stake`: putting ALICE at stake, voting with it, and taking it back. */
import type { Command } from 'commander';
import { callNode } from '../../node/api/client.ts';
import { formatAmount, parseAmount } from '../../node/chain/amount.ts';
import { bond, certifySessionKey, unbond, unjail, withdraw } from '../../node/chain/calls.ts';
import { networkId } from '../../node/chain/genesis.ts';
import { networkOf } from '../network-option.ts';
import {
  addNodeOptions,
  addSigningOptions,
  type NodeFlags,
  nodeOf,
  type SigningFlags,
  sendAndReport,
  signingIdentity,
} from '../node-options.ts';

interface StakeAnswer {
  readonly address: string;
  readonly holdings: Readonly<Record<'balance' | 'locked' | 'bonded' | 'unbonding' | 'registrationBond', string>>;
  readonly stake: {
    readonly unbonding: readonly {
      readonly amount: string;
      readonly freeHeight: number;
      readonly freeTimeMs: string;
    }[];
    readonly sessionKey: string | null;
    readonly genesisWeight: string;
    readonly jailedUntilMs: string | null;
    readonly tombstoned: boolean;
  };
  readonly slashes: readonly { readonly amount: string; readonly offenceHeight: number }[];
  readonly power: string | null;
}

const alice = (units: string): string => `${formatAmount(BigInt(units), 12)} ALICE`;
const instant = (milliseconds: string): string => new Date(Number(milliseconds)).toISOString();

function lines({ address, holdings, stake, slashes, power }: StakeAnswer): string[] {
  const standing = stake.tombstoned
    ? 'out for good: it signed two different votes'
    : stake.jailedUntilMs !== null
      ? `in jail until ${instant(stake.jailedUntilMs)}, then "alice stake unjail"`
      : power !== null
        ? `a validator with power ${power}`
        : stake.sessionKey === null
          ? 'no validator: "alice stake certify" names the key that votes'
          : 'no validator: the stake is below that of those who are';
  return [
    `account     ${address}`,
    `balance     ${alice(holdings.balance)}`,
    `locked      ${alice(holdings.locked)} (rewards that unlock with time)`,
    `bonded      ${alice(holdings.bonded)}`,
    `unbonding   ${alice(holdings.unbonding)}`,
    ...stake.unbonding.map(
      ({ amount, freeHeight, freeTimeMs }) =>
        `  ${alice(amount)} free from height ${freeHeight} and ${instant(freeTimeMs)} on`,
    ),
    ...(holdings.registrationBond === '0'
      ? []
      : [`registered  ${alice(holdings.registrationBond)} (held as a bond until the registration ends)`]),
    `standing    ${standing}`,
    ...slashes.map(
      ({ amount, offenceHeight }) => `slashed     ${alice(amount)} for an offence at height ${offenceHeight}`,
    ),
  ];
}

/** Adds a subcommand that signs. */
function addCall(parent: Command, name: string, description: string, amount?: string): Command {
  const command = parent.command(name).description(description);
  if (amount !== undefined) command.argument('<amount>', amount);
  return addSigningOptions(command);
}

export function addStakeCommand(program: Command): void {
  const stake = program.command('stake').description('put ALICE at stake, vote with it, take it back');
  addCall(stake, 'bond', 'put ALICE at stake, at first or in addition', 'ALICE, up to 12 decimals, such as 100').action(
    async (text: string, flags: SigningFlags) => {
      const amount = parseAmount(text);
      await sendAndReport(bond(amount), flags, `bonded ${formatAmount(amount, 12)} ALICE`);
    },
  );
  addCall(stake, 'unbond', 'take ALICE from the stake; it is free after the unbonding time', 'ALICE to take').action(
    async (text: string, flags: SigningFlags) => {
      const amount = parseAmount(text);
      await sendAndReport(unbond(amount), flags, `unbonding ${formatAmount(amount, 12)} ALICE`);
    },
  );
  addCall(stake, 'withdraw', 'take back all stake that has finished unbonding').action(async (flags: SigningFlags) => {
    await sendAndReport(withdraw(), flags, 'withdrawn');
  });
  addCall(stake, 'unjail', 'come back from jail once its time is over').action(async (flags: SigningFlags) => {
    await sendAndReport(unjail(), flags, 'out of jail');
  });
  addCall(stake, 'certify', 'let the session key in the folder of keys vote for the account; bond first')
    .addHelpText(
      'after',
      '\nThen run "alice validator" with these keys: it votes from two blocks after the stake suffices. Never run two nodes\nwith the same keys: votes that contradict each other cost the stake.',
    )
    .action(async (flags: SigningFlags) => {
      const identity = await signingIdentity(flags);
      const { genesis } = await networkOf(flags);
      const proof = identity.sessionProof(networkId(genesis));
      const { sessionKey } = identity;
      await sendAndReport(certifySessionKey(sessionKey, proof), flags, `${sessionKey} votes for the account`);
    });
  addNodeOptions(
    stake
      .command('show')
      .description('what an account has at stake, and whether it is a validator')
      .argument('<address>', 'SS58 address'),
  ).action(async (address: string, flags: NodeFlags) => {
    const answer = await callNode<StakeAnswer>(await nodeOf(flags), 'stake', { address });
    process.stdout.write(flags.json ? `${JSON.stringify(answer)}\n` : `${lines(answer).join('\n')}\n`);
  });
}
