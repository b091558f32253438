const maxKept = 30;

/** What a checker found wrong: counted, and the first few kept to be shown. */
export class Problems {
  readonly #kept: string[] = [];
  #count = 0;

  get count(): number {
    return this.#count;
  }

  add(problem: string): void {
    this.#count++;
    if (this.#kept.length < maxKept) this.#kept.push(problem);
  }

  toString(): string {
    const more = this.#count - this.#kept.length;
    return `${this.#kept.join('\n')}${more > 0 ? `\nand ${more} more` : ''}`;
  }
}
