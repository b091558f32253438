/** One HTTP call, as a test wants it. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** The body read as JSON. */
  readonly body: unknown;
}

export async function request(
  url: string,
  method = 'GET',
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const isText = typeof body === 'string';
  const response = await fetch(url, {
    method,
    headers: { ...(body === undefined || isText ? {} : { 'content-type': 'application/json' }), ...headers },
    ...(body === undefined ? {} : { body: isText ? body : JSON.stringify(body) }),
    signal: AbortSignal.timeout(60_000),
  });
  const text = await response.text();
  const isJson = response.headers.get('content-type')?.startsWith('application/json') ?? false;
  return {
    status: response.status,
    headers: response.headers,
    text,
    body: isJson ? JSON.parse(text) : undefined,
  };
}

/** The spec's error body. */
export function errorOf(code: string, message: string): unknown {
  return { success: false, error: { code, message } };
}

export interface SentEvent {
  readonly event: string;
  readonly id: string | undefined;
  readonly data: string;
}

/** Reads a stream of server-sent events as a browser would. */
export class EventReader {
  readonly events: SentEvent[] = [];
  readonly status: Promise<number>;
  lastEventId = '';
  comments = 0;
  ended = false;
  readonly #aborter = new AbortController();

  constructor(url: string, headers: Record<string, string> = {}) {
    const response = fetch(url, { headers, signal: this.#aborter.signal });
    this.status = response.then(({ status }) => status);
    response
      .then((answer) => this.#read(answer))
      // Closing the reader aborts the fetch.
      .catch(() => {})
      .finally(() => {
        this.ended = true;
      });
  }

  /** The data of all `message` events. */
  messages<Message>(): Message[] {
    return this.events
      .filter(({ event }) => event === 'message')
      .map(({ data }) => JSON.parse(data) as Message);
  }

  close(): void {
    this.#aborter.abort();
  }

  async #read(response: Response): Promise<void> {
    let rest = '';
    const decoder = new TextDecoder();
    for await (const chunk of response.body as ReadableStream<Uint8Array>) {
      rest += decoder.decode(chunk, { stream: true });
      const blocks = rest.split('\n\n');
      rest = blocks.pop() as string;
      for (const block of blocks) this.#take(block);
    }
  }

  #take(block: string): void {
    let event = 'message';
    let id: string | undefined;
    const data: string[] = [];
    for (const line of block.split('\n')) {
      const colon = line.indexOf(':');
      const field = line.slice(0, colon);
      const value = line.slice(colon + 1).replace(/^ /, '');
      if (field === '') this.comments++;
      else if (field === 'event') event = value;
      else if (field === 'id') id = value;
      else if (field === 'data') data.push(value);
    }
    if (id !== undefined) this.lastEventId = id;
    if (data.length > 0) this.events.push({ event, id, data: data.join('\n') });
  }
}
