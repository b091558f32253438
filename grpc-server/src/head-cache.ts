import type { RequestHead } from './request-head.ts';

const ENTRIES = 4;
const MAX_BLOCK_BYTES = 256;

interface Entry {
  readonly block: Buffer;
  readonly tableChanges: number;
  readonly head: RequestHead;
}

/**
 * Heads of recent requests on one connection, by the bytes of their header block. A client that calls the
 * same method again sends the same bytes. Sound because the result of decoding depends on the block and the
 * dynamic table only: an entry holds for one state of the table (`tableChanges`), and only blocks that leave
 * the table alone are kept.
 */
export class HeadCache {
  private readonly entries: Entry[] = [];
  private next = 0;

  find(bytes: Buffer, start: number, end: number, tableChanges: number): RequestHead | undefined {
    const length = end - start;
    const entries = this.entries;
    for (let i = 0; i < entries.length; i++) {
      const entry = entries[i] as Entry;
      if (entry.tableChanges !== tableChanges || entry.block.length !== length) continue;
      const block = entry.block;
      let at = 0;
      while (at < length && block[at] === bytes[start + at]) at++;
      if (at === length) return entry.head;
    }
    return undefined;
  }

  add(bytes: Buffer, start: number, end: number, tableChanges: number, head: RequestHead): void {
    if (end - start > MAX_BLOCK_BYTES) return;
    const block = Buffer.allocUnsafeSlow(end - start);
    bytes.copy(block, 0, start, end);
    this.entries[this.next] = { block, tableChanges, head };
    this.next = (this.next + 1) % ENTRIES;
  }
}
