/** `alice verify`: facts of the chain, checked by this program instead of believed. */
import type { Command } from 'commander';
import { CallRejectedError } from '../../node/api/client.ts';
import { readVerified, UnprovenAnswerError, type VerifiedRecord } from '../../node/api/remote-proof.ts';
import { accountFromAddress, addressOf } from '../../node/chain/account.ts';
import { formatAmount } from '../../node/chain/amount.ts';
import { blockId } from '../../node/chain/block.ts';
import { networkId } from '../../node/chain/genesis.ts';
import { UntrustedHeaderError } from '../../node/consensus/light-client/bisect.ts';
import { LIGHT_CLOCK_DRIFT_MS, parseTrustedPoint, trustingPeriod } from '../../node/consensus/light-client/trust.ts';
import { type AccountRecord, accountRecord } from '../../node/ledger/accounts.ts';
import { wholeNumber } from '../arguments.ts';
import { addNetworkOption, networkOf } from '../network-option.ts';
import { nodeOf } from '../node-options.ts';
import { CheckFailedError } from '../report-failure.ts';

interface VerifyFlags {
  trust: string;
  dir: string;
  rpc?: string;
  at?: number;
  network?: string;
  trustDays?: number;
  json?: boolean;
}

/** Runs a verification; what does not hold is exit code 1. */
async function verified(read: () => Promise<VerifiedRecord<AccountRecord>>): Promise<VerifiedRecord<AccountRecord>> {
  try {
    return await read();
  } catch (error) {
    const refuted = error instanceof UntrustedHeaderError || error instanceof UnprovenAnswerError;
    // A node that has no such block or state leaves the claim unproven as well.
    if (refuted || error instanceof CallRejectedError)
      throw new CheckFailedError(`not verified: ${error.message}`, { cause: error });
    throw error;
  }
}

async function verifyBalance(address: string, flags: VerifyFlags): Promise<void> {
  const account = accountFromAddress(address);
  const trust = parseTrustedPoint(flags.trust);
  const { genesis } = await networkOf(flags);
  const periodMs = trustingPeriod(flags.trustDays, genesis.parameters.staking.unbondingMs);
  const endpoint = await nodeOf({ dir: flags.dir, ...(flags.rpc === undefined ? {} : { api: flags.rpc }) });
  const { value, block, headers, signatures, proofBytes } = await verified(() =>
    readVerified(endpoint, accountRecord(account), {
      trust,
      height: flags.at,
      options: { trustingPeriod: BigInt(periodMs), clockDrift: BigInt(LIGHT_CLOCK_DRIFT_MS) },
      nowMs: Date.now,
    }),
  );
  const { header } = block;
  if (!Buffer.from(header.network).equals(Buffer.from(networkId(genesis))))
    throw new CheckFailedError(`not verified: the trusted block is not of the network ${genesis.name}`);
  const units = value?.balance ?? 0n;
  if (flags.json) {
    const object = {
      verified: true,
      address: addressOf(account),
      units: units.toString(),
      nonce: value?.nonce ?? 0,
      height: header.height,
      block_id: blockId(header),
      state_root: header.stateRoot,
      time_ms: Number(header.timeMs),
      trusted_height: trust.height,
      headers,
      signatures,
      proof_bytes: proofBytes,
    };
    process.stdout.write(`${JSON.stringify(object)}\n`);
    return;
  }
  const lines = [
    `${formatAmount(units, 12)} ALICE${value === undefined ? ' (the ledger has no such account)' : ''}`,
    '',
    `verified here, believing only that block ${trust.height} is ${trust.id}:`,
    `  headers    ${headers} from there to block ${header.height}, each signed by more than 2/3 of its validators' power`,
    `             and by more than 1/3 of the power that was trusted before it; ${signatures} signatures checked`,
    `  state      root ${header.stateRoot} in block ${blockId(header)}`,
    `  proof      ${proofBytes} bytes lead from that root to the account`,
    `  time       ${new Date(Number(header.timeMs)).toISOString()}: what came later is not known`,
  ];
  process.stdout.write(`${lines.join('\n')}\n`);
}

export function addVerifyCommand(program: Command): void {
  const verify = program
    .command('verify')
    .description('check facts of the chain without trusting the node that is asked');
  addNetworkOption(verify.command('balance'))
    .description('the balance of an account, proven from a block that you trust')
    .argument('<address>', 'SS58 address; Alice addresses start with "a"')
    .requiredOption('--trust <height:hash>', 'a block that you trust, as "alice block" of a node of your own shows it')
    .option('--rpc <url>', 'node to ask, such as http://127.0.0.1:4100; it can be anybody’s')
    .option('--dir <folder>', 'data folder of the node to ask, where there is no --rpc', 'alice-data')
    .option(
      '--at <height>',
      'height to read at, while the node keeps it (default: its last block)',
      wholeNumber(1, 2 ** 32 - 1),
    )
    .option(
      '--trust-days <days>',
      'days for which a trusted block is good; less than stake takes to leave (default: two thirds of that, at most 14 days)',
      wholeNumber(1, 3650),
    )
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      `
The node sends headers, signatures and a proof; this program verifies all of them, from the trusted block on. A node that
lies can refuse an answer, or give an old one (see the time), but not a wrong one. Take HEIGHT:HASH from somebody you
trust, not from the node that is asked; it is good for --trust-days, after which its validators may have left. How long
stake takes to leave is in the network file.

Exit codes: 0 verified, 1 not verified, 2 a usage or environment error.`,
    )
    .action((address: string, flags: VerifyFlags) => verifyBalance(address, flags));
}
