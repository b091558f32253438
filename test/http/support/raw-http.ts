import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { waitFor } from '../../support/wait.ts';

export interface RawAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** One connection of a client that writes its requests by hand. */
export class RawHttp {
  readonly socket: Socket;
  isClosed = false;
  #rest: Buffer = Buffer.alloc(0);

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      this.#rest = Buffer.concat([this.#rest, Buffer.from(chunk)]);
    });
    socket.on('end', () => socket.end());
    socket.on('close', () => {
      this.isClosed = true;
    });
  }

  static async open(url: string): Promise<RawHttp> {
    const socket = connect({ port: Number(new URL(url).port), host: '127.0.0.1', allowHalfOpen: true });
    await once(socket, 'connect');
    return new RawHttp(socket);
  }

  /** Sends a head, with a Host unless the lines have one, and a body. */
  send(lines: readonly string[], body: string | Uint8Array = ''): void {
    const [first = '', ...headers] = lines;
    if (!headers.some((line) => /^host:/i.test(line))) headers.unshift('host: localhost');
    this.write(`${[first, ...headers].join('\r\n')}\r\n\r\n`);
    if (body.length > 0) this.write(body);
  }

  write(bytes: string | Uint8Array): void {
    this.socket.write(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes);
  }

  async ask(lines: readonly string[], body: string | Uint8Array = ''): Promise<RawAnswer> {
    this.send(lines, body);
    return this.answer(lines[0]?.startsWith('HEAD') ?? false);
  }

  /** The next answer, whole. */
  async answer(isOfHead = false): Promise<RawAnswer> {
    let answer: RawAnswer | undefined;
    await waitFor(
      () => `an answer; there is ${JSON.stringify(this.#rest.toString('latin1').slice(0, 300))}`,
      () => {
        answer = this.#take(isOfHead);
        return answer !== undefined;
      },
    );
    return answer as RawAnswer;
  }

  async closes(): Promise<void> {
    await waitFor('the end of the connection', () => this.isClosed);
  }

  /** What came and was not taken yet. */
  get pending(): string {
    return this.#rest.toString('latin1');
  }

  drop(): void {
    this.socket.destroy();
  }

  #take(isOfHead: boolean): RawAnswer | undefined {
    const end = this.#rest.indexOf('\r\n\r\n');
    if (end < 0) return undefined;
    const [first = '', ...lines] = this.#rest.subarray(0, end).toString('latin1').split('\r\n');
    const headers = Object.fromEntries(
      lines.map((line) => [
        line.slice(0, line.indexOf(':')).toLowerCase(),
        line.slice(line.indexOf(':') + 1).trim(),
      ]),
    );
    const status = Number(first.split(' ')[1]);
    const rest = this.#rest.subarray(end + 4);
    let length = Number(headers['content-length'] ?? 0);
    let body = rest.subarray(0, length).toString();
    if (status === 204 || status === 101 || status === 100 || isOfHead) {
      length = 0;
      body = '';
    } else if (headers['transfer-encoding'] === 'chunked') {
      const text: string = rest.toString('latin1');
      const last = text.indexOf('0\r\n\r\n');
      if (last < 0) return undefined;
      length = last + 5;
      body = text.slice(0, last);
    }
    if (rest.length < length) return undefined;
    this.#rest = rest.subarray(length);
    if (status === 100) return this.#take(isOfHead);
    return { status, headers, body };
  }
}
