import type { ClientFrame } from './frames.ts';

/** One connection to a server. Frames are proto3 JSON values; what comes is checked by the receiver. */
export interface Link {
  send(frame: ClientFrame): void;
  /** `onClose` follows, unless it was called already. */
  close(): void;
}

export interface LinkEvents {
  onOpen(): void;
  onFrame(json: unknown): void;
  /** Exactly once, whatever ended it. The code is that of docs/protocol.md; 1006: the connection was lost. */
  onClose(closeCode: number, reason: string): void;
}

/** Begins a connection; calls back later, never at once. */
export type Connect = (events: LinkEvents) => Link;

const subprotocol = 'presence.v1.json';

/**
 * Connects by WebSocket, in browsers and in Node from version 22.
 *
 * @param url of the server, `https://presence.example.com` or `wss://...`; without a path it is `/v1/connect`
 */
export function webSocketLink(url: string | URL): Connect {
  const target = new URL(url);
  target.protocol = target.protocol.replace(/^http/, 'ws');
  if (target.pathname === '/') target.pathname = '/v1/connect';
  return (events) => {
    const socket = new WebSocket(target, subprotocol);
    let isOver = false;
    const over = (code: number, reason: string) => {
      if (isOver) return;
      isOver = true;
      events.onClose(code, reason);
    };
    socket.onopen = () => events.onOpen();
    socket.onmessage = ({ data }) => events.onFrame(typeof data === 'string' ? parse(data) : undefined);
    socket.onclose = ({ code, reason }) => over(code, reason);
    return {
      send: (frame) => {
        if (socket.readyState === socket.OPEN) socket.send(JSON.stringify(frame));
      },
      close: () => {
        socket.close(1000);
        // A peer that is gone never answers the close frame.
        setTimeout(() => over(1006, 'closed here'), 0);
      },
    };
  };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
