#!/usr/bin/env node
// The command `pilotlight`: the built server where it was built, else the sources on the project's own Node.
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const built = fileURLToPath(new URL('../dist/main.js', import.meta.url));
await import(existsSync(built) ? built : new URL('../scripts/start.mjs', import.meta.url).href);
