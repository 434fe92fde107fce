/**
 * What a person sees of a local network: a live picture on a terminal, one line per event elsewhere.
 */

import type { RoundStatus } from '../../node/api/status.ts';
import { formatAmount } from '../../node/chain/amount.ts';
import type { Snapshot } from './snapshot.ts';

/** Shows the network until it is closed. */
export interface View {
  /** A new picture of the network. */
  update(snapshot: Snapshot): void;
  /** Last round of this run, once it is known. */
  aimFor(round: number): void;
  /** A line that stays. */
  notice(line: string): void;
  close(): void;
}

const BARS = '▁▂▃▄▅▆▇█';

/** A curve of one character per value, the last `width` of them; highest value is the highest bar. */
export function sparkline(values: readonly number[], width: number): string {
  const shown = values.slice(-width);
  const low = Math.min(...shown);
  const span = Math.max(...shown) - low;
  return shown.map((value) => BARS[span === 0 ? 0 : Math.round(((value - low) / span) * (BARS.length - 1))]).join('');
}

/** Bytes for people: 3 significant digits, binary units. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  for (const unit of ['B', 'KiB', 'MiB', 'GiB']) {
    if (value < 1024 || unit === 'GiB')
      return `${value < 10 && unit !== 'B' ? value.toFixed(1) : Math.round(value)} ${unit}`;
    value /= 1024;
  }
  return `${bytes} B`;
}

/** Minutes and seconds. */
export function formatDuration(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  return seconds < 60 ? `${seconds}s` : `${Math.floor(seconds / 60)}m${String(seconds % 60).padStart(2, '0')}s`;
}

const number = (value: number | null, digits: number) => (value === null ? '-' : value.toFixed(digits));

/** Lines of a table: the first column to the left, the others to the right. */
function table(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));
  return rows.map((row) =>
    row
      .map((cell, column) =>
        column === 0 || column === row.length - 1 ? cell.padEnd(widths[column]) : cell.padStart(widths[column]),
      )
      .join('  ')
      .trimEnd(),
  );
}

/** The whole picture as lines without colour. Pure, so that a test can read it. */
export function renderSnapshot(
  snapshot: Snapshot,
  elapsedMs: number,
  targetRound: number | null,
  width: number,
): string[] {
  const losses = snapshot.rounds.flatMap(({ heldOutLoss }) => (heldOutLoss === null ? [] : [heldOutLoss]));
  const first = losses.at(0);
  const last = losses.at(-1);
  const goal = targetRound === null ? '' : ` of ${targetRound}`;
  return [
    `Alice local network ${snapshot.network}   ${formatDuration(elapsedMs)}`,
    `height ${snapshot.height}   round ${snapshot.round}${goal}: ${snapshot.phase}   epochs ${snapshot.epochs}   minted ${formatAmount(snapshot.totalIssuance)} ALICE`,
    first === undefined || last === undefined
      ? 'held-out loss: measured when the first round closes'
      : `held-out loss ${last.toFixed(3)} nats, from ${first.toFixed(3)}   ${sparkline(losses, Math.max(10, width - 48))}`,
    '',
    ...table([
      ['miner', 'score', 'accepted', 'rejected', 'earned', 'tokens/s', 'loss', 'sent', 'received', 'now'],
      ...snapshot.miners.map((miner) => [
        miner.name,
        number(miner.lastScore, 4),
        String(miner.accepted),
        String(miner.rejected),
        formatAmount(miner.balance),
        number(miner.tokensPerSecond, 0),
        number(miner.trainingLoss, 3),
        formatBytes(miner.bytesSent),
        formatBytes(miner.bytesReceived),
        miner.activity,
      ]),
    ]),
    '',
    ...table([
      ['validator', 'height', 'state root', 'weights', 'model root', 'earned', 'peers', 'sent', 'received', 'now'],
      ...snapshot.validators.map((validator) => [
        validator.name,
        String(validator.height),
        validator.stateRoot.slice(0, 8),
        validator.weightsRound === null ? '-' : String(validator.weightsRound),
        (validator.weightsRoot ?? '-').slice(0, 8),
        formatAmount(validator.balance),
        String(validator.peers),
        formatBytes(validator.bytesSent),
        formatBytes(validator.bytesReceived),
        validator.activity,
      ]),
    ]),
  ].map((line) => line.slice(0, width));
}

/** Redraws in place. Notices scroll above the picture. */
export class TerminalView implements View {
  readonly #out: NodeJS.WriteStream;
  readonly #startedMs = performance.now();
  #targetRound: number | null = null;
  #drawnLines = 0;
  #lines: string[] = [];

  constructor(out: NodeJS.WriteStream) {
    this.#out = out;
    out.write('\x1b[?25l');
  }

  update(snapshot: Snapshot): void {
    const width = Math.max(40, this.#out.columns ?? 100);
    this.#lines = renderSnapshot(snapshot, performance.now() - this.#startedMs, this.#targetRound, width - 1);
    this.#draw();
  }

  aimFor(round: number): void {
    this.#targetRound = round;
  }

  notice(line: string): void {
    this.#erase();
    this.#out.write(`${line}\n`);
    this.#draw();
  }

  #erase(): void {
    if (this.#drawnLines > 0) this.#out.write(`\x1b[${this.#drawnLines}A\x1b[J`);
    this.#drawnLines = 0;
  }

  #draw(): void {
    // A picture taller than the window would scroll and leave remains behind: show what fits.
    const lines = this.#lines.slice(0, Math.max(4, (this.#out.rows ?? 40) - 2));
    this.#erase();
    if (lines.length > 0) this.#out.write(`\n${lines.join('\n')}\n`);
    this.#drawnLines = lines.length === 0 ? 0 : lines.length + 1;
  }

  close(): void {
    this.#out.write('\x1b[?25h');
  }
}

/** One line per settled round and per notice; for logs, pipes and CI. */
export class LineView implements View {
  readonly #write: (line: string) => void;
  readonly #startedMs = performance.now();
  #lastRound: number | undefined;
  #lastFailed = 0;

  constructor(write: (line: string) => void) {
    this.#write = write;
  }

  update(snapshot: Snapshot): void {
    if (snapshot.round === 0) return;
    // Rounds that were settled before the first look belong to an earlier run and are no news.
    this.#lastRound ??= snapshot.round - 1;
    for (const round of snapshot.rounds) {
      this.#tellFailure(round);
      if (round.round <= this.#lastRound) continue;
      this.#lastRound = round.round;
      const scores = round.submissions
        .map(({ address, score, accepted, reason }) => {
          const name = snapshot.miners.find((miner) => miner.address === address)?.name ?? address.slice(0, 8);
          return `${name} ${score === null ? 'unscored' : score.toFixed(4)}${accepted ? '' : ` rejected (${reason})`}`;
        })
        .join(', ');
      this.notice(
        `round ${round.round}  held-out loss ${number(round.heldOutLoss, 3)}  height ${snapshot.height}  minted ${formatAmount(snapshot.totalIssuance)} ALICE  ${scores}`,
      );
    }
  }

  /** A round is shown when its scores are settled; that its weights came to nothing shows later. */
  #tellFailure({ round, aggregation }: RoundStatus): void {
    if (aggregation !== 'failed' || round <= this.#lastFailed) return;
    this.#lastFailed = round;
    this.notice(`round ${round}  validators did not agree on new weights in time: those before the round stay`);
  }

  aimFor(): void {}

  notice(line: string): void {
    this.#write(`[${formatDuration(performance.now() - this.#startedMs)}] ${line}`);
  }

  close(): void {}
}
