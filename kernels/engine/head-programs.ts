/**
 * The output head as sessions: a bounded number of rows (tokens) at a time and, where the head is large, a bounded part of
 * the vocabulary, so that neither logits nor the head nor its gradient need exist whole.
 *
 * Tiles of the vocabulary are gone through twice: for the sum of exponentials over all of them, then for the gradient.
 */
import { headTileRows } from '../model/head.ts';
import type { Preset } from '../model/preset.ts';
import {
  headForwardGraph,
  headTileStatisticsGraph,
  headTileTrainingGraph,
  headTrainingGraph,
} from '../model/programs.ts';
import { RowLosses } from './row-losses.ts';
import { type BoundTensor, Session, type SessionOptions } from './session.ts';

type Floats = Float32Array<ArrayBuffer>;

/** A run of vocabulary rows. */
export interface HeadTile {
  readonly first: number;
  readonly rows: number;
}

/** What goes into the head; rows are those of a pass. */
export interface HeadInput {
  /** `[rows, hidden]` */
  readonly x: Floats;
  readonly targets: BigInt64Array<ArrayBuffer>;
}

/** What one pass of tokens brings to the head. */
export interface HeadPass extends HeadInput {
  /** Written. */
  readonly losses: Floats;
}

/** A pass with what its gradient needs. */
export interface HeadTrainingPass extends HeadPass {
  readonly rowWeights: Floats;
  /** Gradient of `x`. Written. */
  readonly dx: Floats;
}

/** Where the head's weights come from. */
export interface HeadWeights {
  readonly norm: Floats;
  /** Rows of the head, `[tile.rows, hidden]`; used until the next call. Tiles are asked for in order, once per sweep. */
  readonly tile: (tile: HeadTile) => Promise<Floats>;
}

/** Where the head's gradients go. */
export interface HeadGradients {
  /** One per pass; written. */
  readonly norms: readonly Floats[];
  /** Memory for the gradient of a tile in a pass; asked for when `done` was called for those before. */
  readonly room: (tile: HeadTile, pass: number) => Floats;
  /** All losses are known, and no tile is done in the last pass: throws to stop. */
  readonly losses: () => void;
  /** A tile's gradient is in its memory for that pass. */
  readonly done: (tile: HeadTile, pass: number) => Promise<void>;
}

/** Default of {@link HeadPrograms}'s tiles: up to `alice-125m` a head is one tile. */
export const MAX_HEAD_TILE_BYTES = 256 * 2 ** 20;

/** Runs a head. Sessions are compiled on first use. */
export class HeadPrograms {
  /** In order; one is the whole head. */
  readonly tiles: readonly HeadTile[];
  readonly #preset: Preset;
  readonly #chunk: number;
  readonly #options: SessionOptions;
  readonly #sessions = new Map<string, Session>();
  /** Gradients of a chunk or tile that is not the first to be added up. */
  #laterHead: Floats | undefined;
  #laterNorm: Floats | undefined;
  #laterX: Floats | undefined;
  /** Of one chunk of rows under one tile. */
  #statistics: { readonly max: Floats; readonly sum: Floats; readonly target: Floats } | undefined;

  /** @param chunk - rows at a time; divides those of a pass */
  constructor(preset: Preset, chunk: number, options: SessionOptions, maxTileBytes = MAX_HEAD_TILE_BYTES) {
    this.#preset = preset;
    this.#chunk = chunk;
    this.#options = options;
    const rows = headTileRows(preset, maxTileBytes);
    const tiles: HeadTile[] = [];
    for (let first = 0; first < preset.vocabulary; first += rows)
      tiles.push({ first, rows: Math.min(rows, preset.vocabulary - first) });
    this.tiles = tiles;
  }

  /** How often training goes through all tiles. */
  get trainingSweeps(): number {
    return this.tiles.length === 1 ? 1 : 2;
  }

  /** The tile that begins with that row of the vocabulary. Throws RangeError. */
  tileAt(row: number): HeadTile {
    const tile = this.tiles.find(({ first }) => first === row);
    if (tile === undefined) throw new RangeError(`no tile of the head begins with row ${row}`);
    return tile;
  }

  /** Fills the losses of all passes in one sweep. Throws SessionError. */
  async forward(passes: readonly HeadPass[], weights: HeadWeights, signal?: AbortSignal): Promise<void> {
    await this.#sweep(passes, weights, signal);
  }

  /**
   * Takes a tile into the losses of a pass, which are known after the last one. Tiles come in order. Throws SessionError.
   *
   * @param head - rows of the tile
   */
  async forwardTile(
    tile: HeadTile,
    pass: HeadInput,
    { norm, head }: { readonly norm: Floats; readonly head: Floats },
    losses: RowLosses,
    signal?: AbortSignal,
  ): Promise<void> {
    if (this.tiles.length === 1) await this.#wholeLosses(pass, norm, head, losses.values, signal);
    else await this.#tileStatistics(tile, pass, norm, head, losses, signal);
    if (this.tiles.length > 1 && tile === this.tiles.at(-1)) losses.finish();
  }

  /** Fills losses and gradients of all passes. Throws SessionError, and what `gradients.losses` throws. */
  async train(
    passes: readonly HeadTrainingPass[],
    weights: HeadWeights,
    gradients: HeadGradients,
    signal?: AbortSignal,
  ): Promise<void> {
    const tiled = this.tiles.length > 1;
    const logSumExps = tiled ? await this.#sweep(passes, weights, signal) : undefined;
    if (tiled) gradients.losses();
    for (const tile of this.tiles) {
      const head = await weights.tile(tile);
      for (const [index, pass] of passes.entries()) {
        const into = { norm: gradients.norms[index] as Floats, head: gradients.room(tile, index) };
        for (const start of this.#starts(pass)) {
          signal?.throwIfAborted();
          const first = { x: tile.first === 0, norm: tile.first === 0 && start === 0, head: start === 0 };
          const part = this.#targets(first, pass, start, into);
          const logSumExp = logSumExps?.[index];
          if (logSumExp === undefined) await this.#trainWhole(pass, start, weights.norm, head, part);
          else await this.#trainTile(tile, pass, start, weights.norm, head, logSumExp, part);
          if (!first.x) addInto(this.#rows(pass.dx, start), part.x);
          if (!first.norm) addInto(into.norm, part.norm);
          if (!first.head) addInto(into.head, part.head);
        }
        if (!tiled && index === passes.length - 1) gradients.losses();
        await gradients.done(tile, index);
      }
    }
  }

  async close(): Promise<void> {
    for (const session of this.#sessions.values()) await session.close();
    this.#sessions.clear();
  }

  /** Memory for one chunk's gradients: the final one where it is the first to be added there. */
  #targets(
    first: { readonly x: boolean; readonly norm: boolean; readonly head: boolean },
    pass: HeadTrainingPass,
    start: number,
    into: { readonly norm: Floats; readonly head: Floats },
  ): { readonly x: Floats; readonly norm: Floats; readonly head: Floats } {
    const { hidden } = this.#preset;
    const { length } = into.head;
    if (!first.x) this.#laterX ??= new Float32Array(this.#chunk * hidden);
    if (!first.norm) this.#laterNorm ??= new Float32Array(hidden);
    if (!first.head) this.#laterHead ??= new Float32Array((this.tiles[0]?.rows ?? 0) * hidden);
    return {
      x: first.x ? this.#rows(pass.dx, start) : (this.#laterX as Floats),
      norm: first.norm ? into.norm : (this.#laterNorm as Floats),
      head: first.head ? into.head : (this.#laterHead as Floats).subarray(0, length),
    };
  }

  async #trainWhole(
    pass: HeadTrainingPass,
    start: number,
    norm: Floats,
    head: Floats,
    into: { readonly x: Floats; readonly norm: Floats; readonly head: Floats },
  ): Promise<void> {
    const session = await this.#session('head-training', () => headTrainingGraph(this.#preset, this.#chunk));
    await session.run(
      {
        ...this.#feeds(session, pass, start, norm, head),
        rowWeights: session.bind('rowWeights', this.#cut(pass.rowWeights, start)),
      },
      { losses: session.bind('losses', this.#cut(pass.losses, start)), ...gradientFetches(session, into) },
    );
  }

  async #trainTile(
    tile: HeadTile,
    pass: HeadTrainingPass,
    start: number,
    norm: Floats,
    head: Floats,
    logSumExp: Floats,
    into: { readonly x: Floats; readonly norm: Floats; readonly head: Floats },
  ): Promise<void> {
    const { rows } = tile;
    const session = await this.#session(`head-tile-training-${rows}`, () =>
      headTileTrainingGraph(this.#preset, this.#chunk, rows),
    );
    const { local, hit } = this.#localTargets(pass, start, tile);
    await session.run(
      {
        ...this.#feeds(session, pass, start, norm, head),
        targets: session.bind('targets', local),
        hit: session.bind('hit', hit),
        logSumExp: session.bind('logSumExp', this.#cut(logSumExp, start)),
        rowWeights: session.bind('rowWeights', this.#cut(pass.rowWeights, start)),
      },
      gradientFetches(session, into),
    );
  }

  /** One sweep: fills the losses; returns the logarithm of the sum of exponentials of each row, where tiles had to find it. */
  async #sweep(passes: readonly HeadPass[], weights: HeadWeights, signal?: AbortSignal): Promise<Floats[]> {
    const running = passes.map(({ losses }) => new RowLosses(losses));
    for (const tile of this.tiles) {
      const head = await weights.tile(tile);
      for (const [index, pass] of passes.entries())
        await this.forwardTile(tile, pass, { norm: weights.norm, head }, running[index] as RowLosses, signal);
    }
    return running.map(({ logSumExp }) => logSumExp);
  }

  async #wholeLosses(
    pass: HeadInput,
    norm: Floats,
    head: Floats,
    losses: Floats,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const session = await this.#session('head-forward', () => headForwardGraph(this.#preset, this.#chunk));
    for (const start of this.#starts(pass)) {
      signal?.throwIfAborted();
      await session.run(this.#feeds(session, pass, start, norm, head), {
        losses: session.bind('losses', this.#cut(losses, start)),
      });
    }
  }

  async #tileStatistics(
    tile: HeadTile,
    pass: HeadInput,
    norm: Floats,
    head: Floats,
    losses: RowLosses,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    this.#statistics ??= {
      max: new Float32Array(this.#chunk),
      sum: new Float32Array(this.#chunk),
      target: new Float32Array(this.#chunk),
    };
    const { max, sum, target } = this.#statistics;
    const session = await this.#session(`head-tile-statistics-${tile.rows}`, () =>
      headTileStatisticsGraph(this.#preset, this.#chunk, tile.rows),
    );
    for (const start of this.#starts(pass)) {
      signal?.throwIfAborted();
      const { local, hit } = this.#localTargets(pass, start, tile);
      await session.run(
        { ...this.#feeds(session, pass, start, norm, head), targets: session.bind('targets', local) },
        { max: session.bind('max', max), sum: session.bind('sum', sum), target: session.bind('target', target) },
      );
      for (let i = 0; i < this.#chunk; i++)
        losses.add(start + i, max[i] as number, sum[i] as number, hit[i] === 0 ? undefined : (target[i] as number));
    }
  }

  /** Targets counted from a tile's first row, and -1 where they lie in it. */
  #localTargets(
    pass: HeadInput,
    start: number,
    tile: HeadTile,
  ): { readonly local: BigInt64Array<ArrayBuffer>; readonly hit: Floats } {
    const local = new BigInt64Array(this.#chunk);
    const hit = new Float32Array(this.#chunk);
    for (let i = 0; i < this.#chunk; i++) {
      const at = Number(pass.targets[start + i]) - tile.first;
      if (at < 0 || at >= tile.rows) continue;
      local[i] = BigInt(at);
      hit[i] = -1;
    }
    return { local, hit };
  }

  #feeds(session: Session, pass: HeadInput, start: number, norm: Floats, head: Floats): Record<string, BoundTensor> {
    return {
      x: session.bind('x', this.#rows(pass.x, start)),
      norm: session.bind('norm', norm),
      head: session.bind('head', head),
      targets: session.bind('targets', pass.targets.subarray(start, start + this.#chunk)),
    };
  }

  /** First rows of the chunks of a pass. */
  #starts({ targets }: HeadInput): number[] {
    return Array.from({ length: targets.length / this.#chunk }, (_, chunk) => chunk * this.#chunk);
  }

  #rows(activation: Floats, start: number): Floats {
    const { hidden } = this.#preset;
    return activation.subarray(start * hidden, (start + this.#chunk) * hidden);
  }

  #cut(values: Floats, start: number): Floats {
    return values.subarray(start, start + this.#chunk);
  }

  async #session(name: string, graph: () => Parameters<typeof Session.create>[1]): Promise<Session> {
    const known = this.#sessions.get(name);
    if (known !== undefined) return known;
    const session = await Session.create(name, graph(), this.#options);
    this.#sessions.set(name, session);
    return session;
  }
}

function gradientFetches(
  session: Session,
  into: { readonly x: Floats; readonly norm: Floats; readonly head: Floats },
): Record<string, BoundTensor> {
  return {
    'd.x': session.bind('d.x', into.x),
    'd.norm': session.bind('d.norm', into.norm),
    'd.head': session.bind('d.head', into.head),
  };
}

/** target += values */
export function addInto(target: Float32Array, values: Float32Array): void {
  for (let i = 0; i < target.length; i++) target[i] = (target[i] as number) + (values[i] as number);
}
