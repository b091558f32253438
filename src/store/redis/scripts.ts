import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';

/** A Lua script and the hash that Redis knows it by. */
export interface Script {
  readonly name: string;
  readonly source: string;
  readonly sha1: string;
}

const read = (name: string): string => readFileSync(new URL(`./lua/${name}.lua`, import.meta.url), 'utf8');

/**
 * What a script may do while Redis' memory is full: `always` runs (it frees, ends, renews or keeps house), `never` runs
 * (it grows), `by first write`: Redis refuses it if its first write may grow, and else runs it to its end. `reads` runs
 * always, also where Redis refuses every write.
 */
type RunsWhenFull = 'always' | 'never' | 'by first write' | 'reads';

const flags: Readonly<Record<RunsWhenFull, string>> = {
  always: '#!lua flags=allow-oom\n',
  never: '#!lua\n',
  reads: '#!lua flags=no-writes\n',
  'by first write': '',
};

/** A script after the files that it builds on, since Redis has no includes. */
function script(name: string, runsWhenFull: RunsWhenFull, ...before: readonly string[]): Script {
  const source = flags[runsWhenFull] + [...before, name].map(read).join('\n');
  return { name, source, sha1: createHash('sha1').update(source).digest('hex') };
}

export const scripts = {
  light: script('light', 'by first write', 'transition', 'connections'),
  putOut: script('put-out', 'always', 'transition'),
  connect: script('connect', 'never', 'transition', 'connections'),
  disconnect: script('disconnect', 'always', 'transition', 'connections'),
  renew: script('renew', 'always', 'transition', 'connections'),
  connectionActivity: script('connection-activity', 'always', 'transition', 'connections'),
  connectionList: script('connection-list', 'reads', 'transition', 'connections'),
  customStatus: script('custom-status', 'by first write', 'transition', 'customs'),
  customSweep: script('custom-sweep', 'always', 'transition', 'customs'),
  privacyRead: script('privacy-read', 'reads', 'transition'),
  privacyWrite: script('privacy-write', 'by first write', 'transition'),
  delete: script('delete', 'always', 'transition'),
  trim: script('trim', 'always'),
  restore: script('restore', 'always', 'transition'),
  adopt: script('adopt', 'always', 'transition', 'connections'),
  sweep: script('sweep', 'always', 'transition', 'clock'),
  rebase: script('rebase', 'always', 'transition'),
  read: script('read', 'reads', 'transition'),
  readMany: script('read-many', 'reads'),
  heartbeats: script('heartbeats', 'always'),
  check: script('check', 'always'),
  claim: script('claim', 'always', 'transition', 'clock'),
  nodes: script('nodes', 'always', 'transition'),
  report: script('report', 'always'),
  revocations: script('revocations', 'always'),
} as const;
