import { setTimeout as sleep } from 'node:timers/promises';

/** Much longer than anything takes, on a machine whose cores are all busy with other work too. */
const patienceMs = 60_000;

/**
 * Waits until `condition` holds; fails loudly, with what was waited for, when it does not within `timeoutMs`. Give none,
 * unless the time itself is what the test is about: a busy machine fails a test that is in a hurry.
 */
export async function waitFor(
  what: string | (() => string),
  condition: () => boolean | Promise<boolean>,
  timeoutMs = patienceMs,
): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > endMs) {
      throw new Error(`waited ${timeoutMs} ms in vain for ${typeof what === 'string' ? what : what()}`);
    }
    await sleep(5);
  }
}
