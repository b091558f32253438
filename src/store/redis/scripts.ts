import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';

/** A Lua script and the hash that Redis knows it by. */
export interface Script {
  readonly name: string;
  readonly source: string;
  readonly sha1: string;
}

const read = (name: string): string => readFileSync(new URL(`./lua/${name}.lua`, import.meta.url), 'utf8');
const transition = read('transition');

function script(name: string, source: string): Script {
  return { name, source, sha1: createHash('sha1').update(source).digest('hex') };
}

/** A script that changes users: transition.lua goes before it, since Redis has no includes. */
const changing = (name: string): Script => script(name, `${transition}\n${read(name)}`);
const plain = (name: string): Script => script(name, read(name));

export const scripts = {
  light: changing('light'),
  putOut: changing('put-out'),
  connectionOpen: changing('connection-open'),
  connectionClose: changing('connection-close'),
  sweep: changing('sweep'),
  due: plain('due'),
  claim: plain('claim'),
  nodes: plain('nodes'),
  read: plain('read'),
} as const;
