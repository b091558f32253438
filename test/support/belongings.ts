/** Which processes of this machine belong to an owner: a test file's process, or a whole run. Linux only: elsewhere none. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';

/** In the command line of every keeper. */
export const keeperMark = 'process-keeper.ts';

export interface Belonging {
  readonly pid: number;
  readonly command: string;
}

/**
 * Three marks, since servers such as Redis write their title over their environment: the owner's name in the environment,
 * the owner's folder in the command line, and a working directory within it.
 *
 * @returns without the asking process
 */
export function belongings(owner: string, folder: string): Belonging[] {
  const found: Belonging[] = [];
  for (const name of existingProcesses()) {
    const pid = Number(name);
    if (!(pid > 0) || pid === process.pid) continue;
    const command = read(pid, 'cmdline').replaceAll('\0', ' ').trim();
    const isOwned =
      read(pid, 'environ').includes(owner) ||
      command.includes(folder) ||
      workingDirectory(pid).startsWith(folder);
    // A process without a command line has ended, and waits for its parent.
    if (isOwned && command !== '') found.push({ pid, command });
  }
  return found;
}

function existingProcesses(): string[] {
  try {
    return readdirSync('/proc');
  } catch {
    return [];
  }
}

function read(pid: number, file: string): string {
  try {
    return readFileSync(join('/proc', String(pid), file), 'latin1');
  } catch {
    // It ended meanwhile, or is another user's.
    return '';
  }
}

function workingDirectory(pid: number): string {
  try {
    return readlinkSync(join('/proc', String(pid), 'cwd'));
  } catch {
    return '';
  }
}
