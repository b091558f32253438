import type { HeaderField } from './header-field.ts';

/** The FIFO of RFC 7541 §2.3.2. Position 0 is the newest entry. */
export class DynamicTable {
  /** Sum of the entries' sizes (RFC 7541 §4.1). */
  bytes = 0;
  maxBytes: number;
  /** Oldest first; entries before `first` are gone. */
  private entries: (HeaderField | undefined)[] = [];
  private first = 0;

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }

  get length(): number {
    return this.entries.length - this.first;
  }

  get(position: number): HeaderField | undefined {
    const at = this.entries.length - 1 - position;
    return at < this.first ? undefined : this.entries[at];
  }

  /** RFC 7541 §4.4: evict until it fits; an entry larger than the table empties it and is not kept. */
  insert(field: HeaderField): void {
    this.evictTo(this.maxBytes - field.size);
    if (field.size > this.maxBytes) return;
    this.entries.push(field);
    this.bytes += field.size;
  }

  /** RFC 7541 §4.3. */
  resize(maxBytes: number): void {
    this.maxBytes = maxBytes;
    this.evictTo(maxBytes);
  }

  private evictTo(bytes: number): void {
    while (this.bytes > bytes && this.first < this.entries.length) {
      this.bytes -= (this.entries[this.first] as HeaderField).size;
      this.entries[this.first++] = undefined;
    }
    if (this.first >= 32 && this.first * 2 >= this.entries.length) {
      this.entries = this.entries.slice(this.first);
      this.first = 0;
    }
  }
}
