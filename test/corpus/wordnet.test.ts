import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { glossSentences, readWordnet, wordnetSources } from '../../corpus/read/wordnet.ts';
import { collect, temporaryFolder, thrownBy } from './seeded.ts';

test('glosses become sentences: definition first, then the examples', () => {
  const cases: [string, string[]][] = [
    ['a plant or animal that is atypically small  ', ['A plant or animal that is atypically small.']],
    ['throw; "shoot craps"; "shoot a golf ball"  ', ['Throw.', 'Shoot craps.', 'Shoot a golf ball.']],
    ['an orbit; especially: "it spun"', ['An orbit; especially.', 'It spun.']],
    ['total; "is it?"; "no!"; "yes"- W.M.Thackeray', ['Total.', 'Is it?', 'No!', 'Yes.']],
    ['first part; "example"; second part', ['First part; second part.', 'Example.']],
    ['as in e.g. "a x b = b x a"', ['As in e.g. "a x b = b x a".']],
    ['African ancestry, "this" and "that" are archaic', ['African ancestry, "this" and "that" are archaic.']],
    ['"only an example"', ['Only an example.']],
    ['a quote " left open', ['A quote " left open.']],
    [' ; ', []],
    ['', []],
  ];
  for (const [gloss, sentences] of cases) assert.equal(glossSentences(gloss), sentences, gloss);
});

test('the installed WordNet gives some 9 MB of clean sentences, the same each time', async () => {
  const sources = await wordnetSources();
  const documents: string[] = [];
  for (const source of sources) documents.push(...(await collect(readWordnet(source))));
  const bytes = documents.reduce((sum, document) => sum + Buffer.byteLength(document), 0);
  assert.ok(bytes > 8_500_000 && bytes < 9_500_000, `${bytes} bytes`);
  const lines = documents.join('\n').split('\n');
  // Synsets of WordNet 3.1, counted with grep over the data files.
  assert.is(lines.length, 117_791);
  assert.ok(
    lines.every((line) => /[.!?]["')]?$/.test(line)),
    'a line that ends without punctuation',
  );
  assert.not.ok(
    documents.some((document) => /Princeton University under the following license/.test(document)),
    'the licence is in the text',
  );
  const again = await collect(readWordnet(sources[3]));
  assert.equal(again, documents.slice(-again.length));
});

test('a missing package is named, with what to do', async () => {
  const folder = temporaryFolder();
  const error = await thrownBy(() => wordnetSources(join(folder, 'nowhere')));
  assert.is(error.code, 'ERR_CORPUS_DEFAULT_MISSING');
  assert.match(error.message, 'npm ci');
  rmSync(folder, { recursive: true });
});

test('another WordNet folder can be read; a last line without end counts', async () => {
  const folder = join(temporaryFolder(), 'dict');
  mkdirSync(folder);
  for (const part of ['noun', 'verb', 'adj', 'adv']) {
    writeFileSync(
      join(folder, `data.${part}`),
      `  1 licence | text\n001 03 n 01 x 0 000 | one ${part}  \n002 | two; "three"`,
    );
  }
  const [noun] = await wordnetSources(folder);
  assert.equal(await collect(readWordnet(noun)), ['One noun.\nTwo. Three.']);
  rmSync(join(folder, '..'), { recursive: true });
});

test.run();
