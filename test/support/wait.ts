import { setTimeout as sleep } from 'node:timers/promises';

/** Waits until `condition` holds; fails loudly, with what was waited for, when it does not within `timeoutMs`. */
export async function waitFor(
  what: string | (() => string),
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 5000,
): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > endMs) {
      throw new Error(`waited ${timeoutMs} ms in vain for ${typeof what === 'string' ? what : what()}`);
    }
    await sleep(5);
  }
}
