/** What a service of yes-or-no questions about users counts; see security/lookups.ts. */
export interface LookupStats {
  /** Answers by where they came from; `unknown`: from nowhere. */
  readonly answers: Readonly<Record<'cached' | 'asked' | 'stale' | 'unknown', number>>;
  readonly asks: Readonly<Record<'ok' | 'failed', number>>;
  /** Answers remembered now. */
  readonly remembered: number;
}
