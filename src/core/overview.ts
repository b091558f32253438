/** What operators want to know of an engine. Every engine offers it beside the store's contract. */
export interface Overview {
  /** Users ONLINE in the whole system. Rejects with REDIS_ERROR. */
  countOnline(): Promise<number>;
  /**
   * Leaves this node's report where the others find it, for a few seconds, and answers the reports of all nodes that
   * left one lately, this one's included. Rejects with REDIS_ERROR.
   */
  exchangeReports(report: string): Promise<readonly string[]>;
  /** Memory that the engine uses, and its bound (null: none). Rejects with REDIS_ERROR. */
  memory(): Promise<{ readonly usedBytes: number; readonly maxBytes: number | null }>;
}
