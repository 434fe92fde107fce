/**
 * Cuts running text into documents.
 */

/** No document is cut from text that is longer than this many times the wished length. */
const MAX_LENGTH_FACTOR = 4;

/**
 * Cuts text that comes in chunks into documents of at least `length` UTF-16 code units (the last may be shorter) and at
 * most four times that: at the first blank line after `length`; without one at the last line end, then at the last white
 * space, then anywhere between characters. Where the chunks begin and end makes no difference. Documents come
 * with line ends as "\n", without blank lines around them; those of white space only are left out. Holds four times
 * `length` and a chunk.
 */
export async function* splitText(chunks: AsyncIterable<string>, length: number): AsyncGenerator<string> {
  let pending = '';
  for await (const chunk of chunks) {
    pending += chunk;
    // Waiting for one unit beyond the most that a document may have makes the cut independent of the chunks.
    let start = 0;
    while (pending.length - start > length * MAX_LENGTH_FACTOR) {
      const end = start + cutPosition(pending.slice(start, start + length * MAX_LENGTH_FACTOR + 1), length);
      const document = normalizeDocument(pending.slice(start, end));
      if (document.length > 0) yield document;
      start = end;
    }
    if (start > 0) pending = pending.slice(start);
  }
  while (pending.length > 0) {
    const end = pending.length > length ? cutPosition(pending, length) : pending.length;
    const document = normalizeDocument(pending.slice(0, end));
    if (document.length > 0) yield document;
    pending = pending.slice(end);
  }
}

/** Line ends as "\n", no blank lines at the start, no white space at the end, no lone surrogates. */
export function normalizeDocument(text: string): string {
  const trimmed = text.replaceAll('\r\n', '\n').trimEnd().toWellFormed();
  const firstLine = trimmed.slice(0, trimmed.length - trimmed.trimStart().length).lastIndexOf('\n');
  return trimmed.slice(firstLine + 1);
}

/** Where to cut `text`, which is at most one unit longer than a document may be and may be the last of its file. */
function cutPosition(text: string, length: number): number {
  const most = length * MAX_LENGTH_FACTOR;
  const blankLine = /\n[ \t]*\r?\n/g;
  blankLine.lastIndex = length - 1;
  const match = blankLine.exec(text);
  if (match !== null && blankLine.lastIndex <= most) return blankLine.lastIndex;
  if (text.length <= most) return text.length;
  const lineEnd = text.lastIndexOf('\n', most - 1);
  if (lineEnd >= length) return lineEnd + 1;
  const space = Math.max(text.lastIndexOf(' ', most - 1), text.lastIndexOf('\t', most - 1));
  if (space >= length) return space + 1;
  return (text.charCodeAt(most) & 0xfc00) === 0xdc00 ? most - 1 : most;
}
