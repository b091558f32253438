import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';

/** A Lua script and the hash that Redis knows it by. */
export interface Script {
  readonly name: string;
  readonly source: string;
  readonly sha1: string;
}

const read = (name: string): string => readFileSync(new URL(`./lua/${name}.lua`, import.meta.url), 'utf8');

/** A script after the files that it builds on, since Redis has no includes. */
function script(name: string, ...before: readonly string[]): Script {
  const source = [...before, name].map(read).join('\n');
  return { name, source, sha1: createHash('sha1').update(source).digest('hex') };
}

export const scripts = {
  light: script('light', 'transition', 'connections'),
  putOut: script('put-out', 'transition'),
  connect: script('connect', 'transition', 'connections'),
  disconnect: script('disconnect', 'transition', 'connections'),
  renew: script('renew', 'transition', 'connections'),
  connectionActivity: script('connection-activity', 'transition', 'connections'),
  connectionList: script('connection-list', 'transition', 'connections'),
  customStatus: script('custom-status', 'transition', 'customs'),
  customSweep: script('custom-sweep', 'transition', 'customs'),
  privacyRead: script('privacy-read', 'transition'),
  privacyWrite: script('privacy-write', 'transition'),
  adopt: script('adopt', 'transition', 'connections'),
  sweep: script('sweep', 'transition'),
  read: script('read', 'transition'),
  readMany: script('read-many'),
  heartbeats: script('heartbeats'),
  check: script('check'),
  claim: script('claim'),
  nodes: script('nodes'),
} as const;
