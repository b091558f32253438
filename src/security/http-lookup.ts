import { askJson } from './http-json.ts';
import type { LookupReply } from './lookups.ts';

const maxAnswerBytes = 1024 * 1024;

/**
 * Asks a service which of some users have a yes: POST of `question` and `users`, answered by 200 and a list of some of
 * them under `field`. Rejects on any other answer, since what is not understood is no permission.
 */
export async function lookUpByHttp(
  url: string,
  question: Readonly<Record<string, unknown>>,
  field: string,
  userIds: readonly string[],
  timeoutMs: number,
): Promise<LookupReply> {
  const body = { ...question, users: userIds };
  const { value, maxAgeMs } = await askJson(url, { timeoutMs, maxBytes: maxAnswerBytes, body });
  const list = (value as Record<string, unknown> | null)?.[field];
  if (!Array.isArray(list)) throw new Error(`its answer has no list "${field}"`);
  const asked = new Set(userIds);
  const yes = new Set<string>();
  for (const userId of list) {
    if (!asked.has(userId)) throw new Error(`its list "${field}" names what was not asked for`);
    yes.add(userId);
  }
  return { yes, maxAgeMs };
}
