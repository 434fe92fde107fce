import { mkdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { readDocuments } from '../../corpus/read/documents.ts';
import { MAX_LINE_BYTES, readJsonLines } from '../../corpus/read/jsonl.ts';
import { findSources, type SourceFile } from '../../corpus/read/sources.ts';
import { normalizeDocument, splitText } from '../../corpus/read/split-text.ts';
import { decodeUtf8 } from '../../corpus/read/utf8.ts';
import { decompressZstd } from '../../corpus/read/zstd.ts';
import {
  collect,
  inChunks,
  randomParagraphs,
  randomText,
  seededIntegers,
  temporaryFolder,
  thrownBy,
} from './seeded.ts';

const folder = temporaryFolder();
test.after(() => rmSync(folder, { recursive: true, force: true }));

const decodeInChunks = async (bytes: Uint8Array, sizes: () => number) =>
  (await collect(decodeUtf8(inChunks(bytes, sizes), 'file.txt'))).join('');

test('UTF-8: characters may cross chunk borders anywhere', async () => {
  const integer = seededIntegers(11);
  for (let round = 0; round < 200; round++) {
    const text = `.${randomText(integer, integer(60))}`;
    const bytes = Buffer.from(text);
    for (const most of [1, 2, 3, 7, 100]) {
      assert.is(await decodeInChunks(bytes, () => 1 + integer(most)), text);
    }
  }
});

test('UTF-8: a byte order mark is left out at the start and only there', async () => {
  const bytes = Buffer.from('\ufeffa\ufeffb');
  for (const size of [1, 2, 3, 4, 99]) assert.is(await decodeInChunks(bytes, () => size), 'a\ufeffb');
});

test('UTF-8: the offset of the first wrong byte, however the file is cut', async () => {
  const integer = seededIntegers(12);
  // Never the start or the rest of a valid character: stray continuation, overlong, surrogate, too large, cut short.
  const wrong = ['80', 'ff', 'c0af', 'e08080', 'eda080', 'f4908080', 'f8888080', 'e282', 'f09f98', 'c3', 'fe'];
  for (const hex of wrong) {
    for (let round = 0; round < 12; round++) {
      const before = Buffer.from(`-${randomText(integer, integer(40))}`);
      const after = Buffer.from(integer(2) === 0 ? '' : `a${randomText(integer, integer(40))}`);
      const bytes = Buffer.concat([before, Buffer.from(hex, 'hex'), after]);
      for (const most of [1, 2, 5, 1000]) {
        const error = (await thrownBy(() => decodeInChunks(bytes, () => 1 + integer(most)))) as Error & {
          code: string;
          offset: number;
          file: string;
        };
        assert.is(error.code, 'ERR_CORPUS_NOT_UTF8');
        assert.is(error.offset, before.length, `${hex} in chunks up to ${most}`);
        assert.is(error.file, 'file.txt');
        assert.match(error.message, `file.txt: not UTF-8 at byte ${before.length}`);
      }
    }
  }
});

test('UTF-8: text in UTF-16 is named as such', async () => {
  const error = await thrownBy(() => decodeInChunks(Buffer.from('\ufeffhello', 'utf16le'), () => 100));
  assert.match(error.message, /byte 0.*UTF-16/);
});

async function* characters(text: string, sizes: () => number): AsyncGenerator<string> {
  for (let start = 0; start < text.length; ) {
    const size = sizes();
    yield text.slice(start, start + size);
    start += size;
  }
}

test('running text: nothing is lost, documents keep their bounds, chunks make no difference', async () => {
  const integer = seededIntegers(13);
  const texts = [
    randomParagraphs(1, 6000),
    randomParagraphs(2, 6000).replaceAll('\n', '\r\n'),
    randomParagraphs(3, 6000).replaceAll('\n\n', '\n'),
    randomParagraphs(4, 6000).replaceAll(/\s+/g, ' '),
    randomParagraphs(5, 6000).replaceAll(/\s+/g, ''),
    '😀'.repeat(2000),
    `a${'😀'.repeat(2000)}`,
    randomText(integer, 3000),
    ' \n'.repeat(3000),
    '',
  ];
  for (const text of texts) {
    const whole = await collect(
      splitText(
        characters(text, () => 1e9),
        256,
      ),
    );
    for (const document of whole) {
      assert.ok(document.length > 0 && document.length <= 1024, `document of ${document.length}`);
      assert.ok(document.isWellFormed());
      assert.not.match(document, /\s$|\r\n/);
    }
    assert.is(whole.join('').replaceAll(/\s/g, ''), text.replaceAll(/\s/g, ''));
    for (const most of [1, 10, 300, 2000]) {
      assert.equal(
        await collect(
          splitText(
            characters(text, () => 1 + integer(most)),
            256,
          ),
        ),
        whole,
      );
    }
  }
});

test('running text is cut at blank lines where it has them', async () => {
  const text = randomParagraphs(6, 20_000);
  const paragraphs = new Set(text.trim().split('\n\n'));
  const documents = await collect(
    splitText(
      characters(text, () => 777),
      512,
    ),
  );
  assert.ok(documents.length > 10);
  for (const document of documents) {
    for (const paragraph of document.split('\n\n')) assert.ok(paragraphs.has(paragraph), paragraph);
  }
});

test('documents keep the indentation of their first line', () => {
  assert.is(normalizeDocument('\r\n  \n    code\r\n  more \n\n'), '    code\n  more');
  assert.is(normalizeDocument(' \t\n '), '');
});

const jsonLines = (bytes: Uint8Array, size = 1e9) =>
  collect(
    readJsonLines(
      inChunks(bytes, () => size),
      'x.jsonl',
    ),
  );

test('JSON lines: text in any chunks; blank lines and empty texts are left out', async () => {
  const integer = seededIntegers(14);
  const texts = Array.from({ length: 50 }, () => normalizeDocument(`.${randomText(integer, integer(30))}`));
  const lines = texts.flatMap((text) => [JSON.stringify({ id: 1, text }), integer(3) === 0 ? '  ' : '{"text":" "}']);
  for (const end of ['\n', '\r\n']) {
    const bytes = Buffer.from(`\ufeff${lines.join(end)}`);
    for (const size of [1, 3, 64, 1e9]) assert.equal(await jsonLines(bytes, size), texts);
    assert.equal(await jsonLines(Buffer.concat([bytes, Buffer.from(end)])), texts);
  }
});

test('JSON lines: what is wrong is named with file and line', async () => {
  const cases: [string, string, RegExp][] = [
    ['{"text":"a"}\n\n{"text":', 'ERR_CORPUS_JSON_LINE', /^x\.jsonl:3: not a JSON object/],
    ['{"text":"a"}\nhello', 'ERR_CORPUS_JSON_LINE', /^x\.jsonl:2: /],
    ['["text"]', 'ERR_CORPUS_JSON_LINE', /^x\.jsonl:1: .*array/],
    ['null', 'ERR_CORPUS_JSON_LINE', /^x\.jsonl:1: /],
    ['7', 'ERR_CORPUS_JSON_LINE', /^x\.jsonl:1: /],
    ['{"text":"a"}\n{"content":"a"}', 'ERR_CORPUS_TEXT_FIELD', /^x\.jsonl:2: .*"text"/],
    ['{"text":5}', 'ERR_CORPUS_TEXT_FIELD', /^x\.jsonl:1: /],
  ];
  for (const [content, code, message] of cases) {
    for (const size of [1, 1e9]) {
      const error = await thrownBy(() => jsonLines(Buffer.from(content), size));
      assert.is(error.code, code);
      assert.match(error.message, message);
      assert.not.match(error.message, '\n');
    }
  }
});

test('JSON lines: bytes that are not UTF-8 are named with their offset in the file', async () => {
  const first = Buffer.from('{"text":"日本"}\n{"text":"b');
  const error = await thrownBy(() =>
    jsonLines(Buffer.concat([first, Buffer.from([0xe2, 0x28]), Buffer.from('"}')]), 5),
  );
  assert.is(error.code, 'ERR_CORPUS_NOT_UTF8');
  assert.match(error.message, `byte ${first.length};`);
});

test('JSON lines: a line without end is refused before it fills the memory', async () => {
  let produced = 0;
  async function* endless() {
    for (;;) {
      produced += 1 << 20;
      yield Buffer.alloc(1 << 20, 'a');
    }
  }
  const error = await thrownBy(() => collect(readJsonLines(endless(), 'x.jsonl')));
  assert.is(error.code, 'ERR_CORPUS_LINE_TOO_LONG');
  assert.ok(produced <= MAX_LINE_BYTES + (2 << 20));
});

test('Zstandard: one frame or many, in any chunks', async () => {
  const integer = seededIntegers(15);
  const random = Buffer.from(Array.from({ length: 200_000 }, () => integer(256)));
  const parts = [Buffer.from('first\n'), Buffer.alloc(500_000, 'abc'), random, Buffer.alloc(0), Buffer.from('last')];
  const frames = parts.map((part) => zstdCompressSync(part));
  // A skippable frame (RFC 8878, 3.1.2), as pzstd writes.
  const skippable = Buffer.from('502a4d180400000001020304', 'hex');
  const compressed = Buffer.concat([frames[0], skippable, ...frames.slice(1)]);
  for (const sizes of [() => 1e9, () => 1000, () => frames[0].length, () => 1 + integer(70_000)]) {
    const output = Buffer.concat(await collect(decompressZstd(inChunks(compressed, sizes), 'x.zst')));
    assert.ok(output.equals(Buffer.concat(parts)));
  }
});

test('Zstandard: garbage, damage, a file cut short and garbage after a frame are all refused', async () => {
  const good = zstdCompressSync(Buffer.from(randomParagraphs(7, 50_000)));
  const flipped = Buffer.from(good);
  flipped[good.length >> 1] ^= 0xff;
  const cases = {
    garbage: Buffer.from('this is not compressed'),
    short: good.subarray(0, good.length - 5),
    'cut in the header': good.subarray(0, 3),
    flipped,
    trailing: Buffer.concat([good, Buffer.from('garbage')]),
  };
  for (const [name, bytes] of Object.entries(cases)) {
    for (const size of [100, 1e9]) {
      const outcome = collect(
        decompressZstd(
          inChunks(bytes, () => size),
          'x.zst',
        ),
      );
      // A flipped bit may also just change the text: zstdCompressSync writes no checksum.
      if (name === 'flipped') await outcome.catch((error) => assert.is(error.code, 'ERR_CORPUS_ZSTD'));
      else assert.is((await thrownBy(() => outcome)).code, 'ERR_CORPUS_ZSTD', name);
    }
  }
});

test('Zstandard: an error of the source comes out as it is', async () => {
  async function* failing() {
    yield zstdCompressSync(Buffer.from('a')).subarray(0, 4);
    throw new RangeError('the disk is gone');
  }
  assert.is((await thrownBy(() => collect(decompressZstd(failing(), 'x.zst')))).message, 'the disk is gone');
});

/** Makes files and returns the folder. */
function tree(name: string, files: Record<string, string | Uint8Array>): string {
  const base = join(folder, name);
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(join(base, path, '..'), { recursive: true });
    writeFileSync(join(base, path), content);
  }
  return base;
}

const namesIn = (base: string, files: readonly SourceFile[]) => files.map((file) => relative(base, file.path));

test('sources: files, folders with all below them, patterns; each file once, in the order of paths', async () => {
  const base = tree('sources', {
    'b.txt': 'b',
    'a.md': 'a',
    'deep/er/c.jsonl': '{"text":"c"}',
    'deep/D.TXT': 'd',
    'deep/e.jsonl.zst': zstdCompressSync(Buffer.from('{"text":"e"}')),
    'image.png': 'x',
    'empty.txt': '',
    '.hidden.txt': 'h',
    'odd [1].txt': 'o',
  });
  const all = ['a.md', 'b.txt', 'deep/D.TXT', 'deep/e.jsonl.zst', 'deep/er/c.jsonl', 'odd [1].txt'];
  assert.equal(namesIn(base, await findSources([base])), all);
  assert.equal(namesIn(base, await findSources([join(base, 'b.txt'), base, join(base, 'b.txt')])), all);
  assert.equal(namesIn(base, await findSources([`${base}/*.{txt,md}`])), ['a.md', 'b.txt', 'odd [1].txt']);
  assert.equal(namesIn(base, await findSources([`${base}/**/*.jsonl*`])), ['deep/e.jsonl.zst', 'deep/er/c.jsonl']);
  // A path that exists is a path, whatever signs it has.
  assert.equal(namesIn(base, await findSources([join(base, 'odd [1].txt')])), ['odd [1].txt']);
  assert.equal(
    (await findSources([base])).map((file) => file.format),
    ['text', 'text', 'text', 'jsonl.zst', 'jsonl', 'text'],
  );
});

test('sources: links that lead in a circle do not hang', async () => {
  const base = tree('circle', { 'a.txt': 'a' });
  symlinkSync(base, join(base, 'again'));
  assert.ok((await findSources([base])).length >= 1);
});

test('sources: what is wrong is named with a code and one line of what to do', async () => {
  const base = tree('wrong', { 'empty.txt': '', 'image.png': 'x', 'table.parquet': 'x', 'none/image.png': 'x' });
  symlinkSync('loop.txt', join(base, 'loop.txt'));
  const cases: [string[], string][] = [
    [[join(base, 'missing.txt')], 'ERR_CORPUS_SOURCE_MISSING'],
    [[join(base, 'missing folder')], 'ERR_CORPUS_SOURCE_MISSING'],
    // A link to itself: the system refuses to open it, whoever asks (root ignores permissions).
    [[join(base, 'loop.txt')], 'ERR_CORPUS_SOURCE_UNREADABLE'],
    [[join(base, 'image.png', 'x.txt')], 'ERR_CORPUS_SOURCE_UNREADABLE'],
    [['/dev/null'], 'ERR_CORPUS_SOURCE_UNREADABLE'],
    [[join(base, 'empty.txt')], 'ERR_CORPUS_SOURCE_EMPTY'],
    [[join(base, 'image.png')], 'ERR_CORPUS_FORMAT_UNSUPPORTED'],
    [[join(base, 'table.parquet')], 'ERR_CORPUS_FORMAT_UNSUPPORTED'],
    [[join(base, 'none')], 'ERR_CORPUS_NO_FILES'],
    [[`${base}/*.jsonl`], 'ERR_CORPUS_NO_FILES'],
    [[], 'ERR_CORPUS_NO_FILES'],
  ];
  for (const [paths, code] of cases) {
    const error = await thrownBy(() => findSources(paths));
    assert.is(error.code, code, `${paths}: ${error.message}`);
    assert.match(error.message, paths[0] ?? 'name at least one');
    assert.not.match(error.message, '\n');
  }
});

test('documents of files in every format', async () => {
  const lines = '{"text":"first"}\n{"text":"second"}\n';
  const base = tree('formats', {
    'a.txt': '\ufefffirst\n\nsecond\n',
    'b.md': '# first\n',
    'c.jsonl': lines,
    'd.jsonl.zst': Buffer.concat([zstdCompressSync(Buffer.from(lines)), zstdCompressSync(Buffer.from(lines))]),
  });
  let bytes = 0;
  const found: string[][] = [];
  const files = await findSources([base]);
  for (const file of files) {
    found.push(await collect(readDocuments(file, { documentLength: 2048, onBytes: (more) => (bytes += more) })));
  }
  assert.equal(found, [['first\n\nsecond'], ['# first'], ['first', 'second'], ['first', 'second', 'first', 'second']]);
  assert.is(
    bytes,
    files.reduce((sum, file) => sum + file.bytes, 0),
  );
});

test('documents: a file that goes away, or a signal, ends reading with a clear reason', async () => {
  const base = tree('gone', { 'a.txt': 'a', 'b.txt': randomParagraphs(8, 2_000_000) });
  const [a, b] = await findSources([base]);
  rmSync(a.path);
  assert.is(
    (await thrownBy(() => collect(readDocuments(a, { documentLength: 99 })))).code,
    'ERR_CORPUS_SOURCE_MISSING',
  );
  const stop = new AbortController();
  const reason = new Error('stopped');
  const read = async () => {
    for await (const _ of readDocuments(b, { documentLength: 99, signal: stop.signal })) stop.abort(reason);
  };
  assert.is(await thrownBy(read), reason);
});

test('sources carry size and time, by which a change is noticed', async () => {
  const base = tree('times', { 'a.txt': 'abc' });
  utimesSync(join(base, 'a.txt'), 1000, 2000);
  const [file] = await findSources([base]);
  assert.is(file.bytes, 3);
  assert.is(file.modifiedMs, 2_000_000);
});

test.run();
