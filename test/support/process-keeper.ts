/**
 * Ends what a process leaves behind, whatever ended it. A program of its own, since a process that is killed can clean
 * nothing: its standard input is a pipe from the process it keeps, and the pipe ends with that process.
 *
 * Lines of standard input: `started PID` of a group leader, `ended PID`.
 * Arguments: the owner's name and folder (belongings.ts), and a folder for reports or an empty text.
 */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Belonging, belongings, keeperMark } from './belongings.ts';

/** Children of a child that just ended may need a moment to notice. */
const graceMs = 1000;
const killMs = 10_000;

const [owner, folder, reports] = process.argv.slice(2) as [string, string, string];
const groups = new Set<number>();
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => {});

for await (const line of createInterface({ input: process.stdin })) {
  const [what, pid] = line.split(' ');
  if (what === 'started') groups.add(Number(pid));
  else groups.delete(Number(pid));
}

const left: string[] = [];
for (const pid of groups) if (kill(-pid)) left.push(`process group ${pid}`);
for (const endMs = performance.now() + graceMs; performance.now() < endMs; await sleep(50)) {
  if (others().length === 0) break;
}
for (const { pid, command } of others()) if (kill(pid)) left.push(`${command} (${pid})`);
// What was killed writes no more once it is gone.
for (const endMs = performance.now() + killMs; performance.now() < endMs; await sleep(20)) {
  if (others().length === 0) break;
}
rmSync(folder, { recursive: true, force: true });
if (reports !== '' && left.length > 0) writeFileSync(join(reports, owner), `${left.join('\n')}\n`);

/** Other keepers are at the same work. */
function others(): Belonging[] {
  return belongings(owner, folder).filter(({ command }) => !command.includes(keeperMark));
}

function kill(pid: number): boolean {
  try {
    process.kill(pid, 'SIGKILL');
    return true;
  } catch {
    return false;
  }
}
