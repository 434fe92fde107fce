#!/usr/bin/env node
/** The command `alice`: finds a Node that can run it, then runs bin/alice.ts. */

import { fileURLToPath } from 'node:url';
import { launch } from './launch.js';

launch(fileURLToPath(new URL('./alice.ts', import.meta.url)), process.argv.slice(1));
