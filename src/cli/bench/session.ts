import { WebSocket } from 'ws';
import { H2Connection, type H2Stream, type Target } from './h2-connection.ts';
import { requestHead } from './h2-frames.ts';
import type { LoadOptions } from './job.ts';
import {
  goodbyeFrame,
  helloFrame,
  paths,
  readEvent,
  readServerFrame,
  serverFrame,
  subscribeRequest,
  watchFrame,
} from './messages.ts';

/** Most connections that one address of this machine makes to one port. */
const connectionsPerAddress = 20_000;

/** One user's live connection, of whatever kind, on a socket of its own. */
export interface LoadSession {
  /** Leaves as a client that is closed. */
  close(): void;
  /** Goes as a client whose power was cut. */
  drop(): void;
}

export interface SessionOptions {
  readonly load: LoadOptions;
  /** Number of the connection among all of the run: chooses the address to come from. */
  readonly index: number;
  /** '': nobody, where the kind allows it. */
  readonly userId: string;
  readonly watch: readonly string[];
  /** Called for each event, which is then in `seen` of messages.ts. */
  readonly onEvent: () => void;
  /** Called once if it ends without having been asked to. */
  readonly onLost: () => void;
}

export function targetOf(load: LoadOptions, index: number): Target {
  const address = Math.floor(index / connectionsPerAddress);
  const isLoopback = load.host.startsWith('127.') || load.host === 'localhost';
  return {
    host: load.host,
    port: load.port,
    // A second address is needed only where the ports of the first run out, and only loopback has them for free.
    localAddress: isLoopback && address > 0 ? `127.0.0.${1 + address}` : undefined,
  };
}

/** Resolves when the server has answered: the head of a stream, the welcome of a session. */
export function openSession(options: SessionOptions): Promise<LoadSession> {
  switch (options.load.kind) {
    case 'stream':
      return openStream(options);
    case 'grpc':
      return openConnect(options);
    case 'websocket':
      return openWebSocket(options);
  }
}

/** Heads are the same for all connections of a run. */
const heads = new Map<string, Buffer>();

export function headOf(load: LoadOptions, path: string): Buffer {
  let head = heads.get(path);
  if (!head) {
    head = requestHead(path, `${load.host}:${load.port}`, load.metadata);
    heads.set(path, head);
  }
  return head;
}

function openStream(options: SessionOptions): Promise<LoadSession> {
  const { load, userId, watch, onEvent } = options;
  return overConnection(options, (connection, opened, ended) => {
    connection.call(headOf(load, paths.subscribe), subscribeRequest(userId, watch), {
      onHead: opened,
      onMessage: (bytes, start, end) => {
        readEvent(bytes, start, end);
        onEvent();
      },
      onEnd: ended,
    });
    return () => connection.destroy();
  });
}

function openConnect(options: SessionOptions): Promise<LoadSession> {
  const { load, userId, watch, onEvent } = options;
  return overConnection(options, (connection, opened, ended) => {
    let stream: H2Stream | undefined;
    const sink = {
      onMessage: (bytes: Buffer, start: number, end: number) => {
        if (readServerFrame(bytes, start, end, onEvent) !== serverFrame.welcome) return;
        if (watch.length > 0) stream?.send(watchFrame(watch));
        opened();
      },
      onEnd: ended,
    };
    void connection.open(headOf(load, paths.connect), helloFrame(userId), sink).then((it) => {
      stream = it;
    });
    return () => {
      stream?.send(goodbyeFrame);
      // The goodbye goes out at the end of this turn of the event loop, and its answer is not awaited.
      setTimeout(() => connection.destroy(), 50);
    };
  });
}

/** What gRPC sessions of both kinds share: a connection of their own, and its end. */
function overConnection(
  { load, index, onLost }: SessionOptions,
  begin: (connection: H2Connection, opened: () => void, ended: () => void) => () => void,
): Promise<LoadSession> {
  return new Promise((resolve, reject) => {
    const connection = new H2Connection(targetOf(load, index));
    let isOpen = false;
    let isLeft = false;
    const ended = (): void => {
      if (isLeft) return;
      isLeft = true;
      if (isOpen) onLost();
      else reject(new Error('the session was refused'));
      connection.destroy();
    };
    const leave = begin(
      connection,
      () => {
        if (isOpen || isLeft) return;
        isOpen = true;
        resolve({
          close: () => {
            isLeft = true;
            leave();
          },
          drop: () => {
            isLeft = true;
            connection.destroy();
          },
        });
      },
      ended,
    );
    connection.opened.catch(() => ended());
  });
}

function openWebSocket({
  load,
  index,
  userId,
  watch,
  onEvent,
  onLost,
}: SessionOptions): Promise<LoadSession> {
  const { localAddress } = targetOf(load, index);
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`ws://${load.host}:${load.httpPort}/v1/connect`, 'presence.v1.proto', {
      perMessageDeflate: false,
      skipUTF8Validation: true,
      handshakeTimeout: 10_000,
      headers: Object.fromEntries(load.metadata),
      ...(localAddress === undefined ? {} : { localAddress }),
    });
    socket.binaryType = 'nodebuffer';
    let isOpen = false;
    let isLeft = false;
    const session: LoadSession = {
      close: () => {
        isLeft = true;
        socket.send(goodbyeFrame);
      },
      drop: () => {
        isLeft = true;
        socket.terminate();
      },
    };
    socket.on('open', () => socket.send(helloFrame(userId)));
    socket.on('message', (data: Buffer) => {
      if (readServerFrame(data, 0, data.length, onEvent) !== serverFrame.welcome || isOpen) return;
      isOpen = true;
      if (watch.length > 0) socket.send(watchFrame(watch));
      resolve(session);
    });
    // 'close' follows and tells.
    socket.on('error', () => {});
    socket.on('close', () => {
      if (isLeft) return;
      isLeft = true;
      if (isOpen) onLost();
      else reject(new Error('the WebSocket was refused'));
    });
  });
}
