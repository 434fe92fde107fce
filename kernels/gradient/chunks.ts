/**
 * How a tensor is cut into the chunks within which the largest elements are selected (DESIGN 3.5).
 *
 * Tiles keep a chunk's elements close together in both dimensions of a weight matrix; fixed chunks make selection local,
 * so that memory stays small and every part of the model gets its say.
 */

/** Elements of a full chunk. */
export const CHUNK_ELEMENTS = 4096;

/** Side of a full tile: 64 x 64 = {@link CHUNK_ELEMENTS}. */
export const TILE_SIDE = 64;

/**
 * `tiles`: chunks of at most 4096 elements; 64x64 tiles where a tensor has two dimensions of at least 64, else runs of
 * the flattened tensor. `tensor`: the whole tensor is one chunk (the published "top 0.1 %").
 */
export type Chunking = 'tiles' | 'tensor';

/** A tensor cut into chunks: `bands` of `chunksPerBand` chunks each, in that order. */
export interface ChunkGeometry {
  /** True when chunks are tiles of a matrix; else they are runs of consecutive elements. */
  readonly tiled: boolean;
  /** Elements of the tensor. */
  readonly length: number;
  /** Rows of the matrix when tiled, else 1. */
  readonly rows: number;
  /** Columns of the matrix when tiled, else `length`. Distance in elements between rows of a tile. */
  readonly columns: number;
  readonly bands: number;
  readonly chunksPerBand: number;
  readonly chunks: number;
  /** Elements of the largest chunk. */
  readonly largestChunk: number;
}

/** A chunk: `height` rows of `width` elements, `columns` (of the geometry) apart, the first at element `start`. */
export interface Chunk {
  readonly start: number;
  readonly height: number;
  readonly width: number;
}

/** Cuts a tensor of the given shape. Positions in a chunk count row by row. */
export function chunkGeometry(shape: readonly number[], chunking: Chunking): ChunkGeometry {
  const length = shape.reduce((size, dimension) => size * dimension, 1);
  const [rows = 1, columns = 1] = shape;
  if (chunking === 'tiles' && shape.length === 2 && rows >= TILE_SIDE && columns >= TILE_SIDE) {
    const bands = Math.ceil(rows / TILE_SIDE);
    const chunksPerBand = Math.ceil(columns / TILE_SIDE);
    const chunks = bands * chunksPerBand;
    return { tiled: true, length, rows, columns, bands, chunksPerBand, chunks, largestChunk: CHUNK_ELEMENTS };
  }
  const run = chunking === 'tiles' ? Math.min(length, CHUNK_ELEMENTS) : length;
  const bands = Math.ceil(length / run);
  return { tiled: false, length, rows: 1, columns: length, bands, chunksPerBand: 1, chunks: bands, largestChunk: run };
}

/** The chunk at a band and a place in it. Edge chunks are smaller. */
export function chunkAt(geometry: ChunkGeometry, band: number, place: number): Chunk {
  if (!geometry.tiled) {
    const start = band * geometry.largestChunk;
    return { start, height: 1, width: Math.min(geometry.largestChunk, geometry.length - start) };
  }
  const row = band * TILE_SIDE;
  const column = place * TILE_SIDE;
  return {
    start: row * geometry.columns + column,
    height: Math.min(TILE_SIDE, geometry.rows - row),
    width: Math.min(TILE_SIDE, geometry.columns - column),
  };
}

/** Elements of the chunk at a band and a place in it, without an object: decoders ask for chunks by the million. */
export function chunkSize(geometry: ChunkGeometry, band: number, place: number): number {
  if (!geometry.tiled) return Math.min(geometry.largestChunk, geometry.length - band * geometry.largestChunk);
  return (
    Math.min(TILE_SIDE, geometry.rows - band * TILE_SIDE) * Math.min(TILE_SIDE, geometry.columns - place * TILE_SIDE)
  );
}

/** Elements kept when every chunk keeps `topK`, or all it has where it has fewer. Takes no longer for large tensors. */
export function fullEntries(geometry: ChunkGeometry, topK: number): number {
  // All chunks but those of the last band and of the last place in a band are of one size.
  const { bands, chunksPerBand } = geometry;
  const [lastBand, lastPlace] = [bands - 1, chunksPerBand - 1];
  const kept = (band: number, place: number) => Math.min(topK, chunkSize(geometry, band, place));
  return (
    lastBand * lastPlace * kept(0, 0) +
    lastBand * kept(0, lastPlace) +
    lastPlace * kept(lastBand, 0) +
    kept(lastBand, lastPlace)
  );
}
