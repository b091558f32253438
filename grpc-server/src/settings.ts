/** SETTINGS in both directions (RFC 9113 §6.5). */
import { ConnectionError, H2Error } from './errors.ts';
import {
  DEFAULT_MAX_FRAME_BYTES,
  DEFAULT_WINDOW_BYTES,
  LARGEST_MAX_FRAME_BYTES,
  MAX_WINDOW_BYTES,
  readUint32,
  Setting,
  settingsFrameBytes,
  WINDOW_UPDATE_FRAME_BYTES,
  writeSettings,
  writeWindowUpdate,
} from './frames.ts';
import type { Limits } from './limits.ts';
import type { Sender } from './sender.ts';
import type { Stream } from './stream.ts';

/** Our SETTINGS and the WINDOW_UPDATE that opens the connection window, as the first bytes we send. */
export function makeGreeting(limits: Limits): Buffer {
  const settings: [number, number][] = [
    [Setting.ENABLE_PUSH, 0],
    [Setting.MAX_CONCURRENT_STREAMS, limits.maxConcurrentStreams],
    [Setting.INITIAL_WINDOW_SIZE, limits.streamWindowBytes],
    [Setting.MAX_FRAME_SIZE, DEFAULT_MAX_FRAME_BYTES],
    [Setting.MAX_HEADER_LIST_SIZE, limits.maxHeaderListBytes],
  ];
  const extra = limits.connectionWindowBytes - DEFAULT_WINDOW_BYTES;
  const settingsBytes = settingsFrameBytes(settings);
  const greeting = Buffer.alloc(settingsBytes + (extra > 0 ? WINDOW_UPDATE_FRAME_BYTES : 0));
  writeSettings(greeting, 0, 0, settings);
  if (extra > 0) writeWindowUpdate(greeting, settingsBytes, 0, extra);
  return greeting;
}

/** Applies the entries of a client's SETTINGS frame, in their order, to its sender and its open streams. */
export function applySettings(
  bytes: Buffer,
  start: number,
  end: number,
  maxEntries: number,
  sender: Sender,
  streams: Iterable<Stream>,
): void {
  if ((end - start) % 6 !== 0) throw new ConnectionError(H2Error.FRAME_SIZE_ERROR, 'SETTINGS length');
  if ((end - start) / 6 > maxEntries) {
    throw new ConnectionError(H2Error.ENHANCE_YOUR_CALM, 'too many settings');
  }
  for (let at = start; at < end; at += 6) {
    const id = ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
    applySetting(id, readUint32(bytes, at + 2), sender, streams);
  }
}

/** §6.5.2. Unknown settings are ignored. */
function applySetting(id: number, value: number, sender: Sender, streams: Iterable<Stream>): void {
  switch (id) {
    case Setting.HEADER_TABLE_SIZE:
      sender.onTableSize(value);
      return;
    case Setting.ENABLE_PUSH:
      if (value > 1) throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'ENABLE_PUSH');
      return;
    case Setting.INITIAL_WINDOW_SIZE:
      if (value > MAX_WINDOW_BYTES) {
        throw new ConnectionError(H2Error.FLOW_CONTROL_ERROR, 'INITIAL_WINDOW_SIZE');
      }
      if (!sender.setInitialStreamWindow(value, streams)) {
        throw new ConnectionError(H2Error.FLOW_CONTROL_ERROR, 'INITIAL_WINDOW_SIZE overflows a stream');
      }
      return;
    case Setting.MAX_FRAME_SIZE:
      if (value < DEFAULT_MAX_FRAME_BYTES || value > LARGEST_MAX_FRAME_BYTES) {
        throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'MAX_FRAME_SIZE');
      }
      sender.maxFrameBytes = value;
      return;
    case Setting.MAX_HEADER_LIST_SIZE:
      sender.maxHeaderListBytes = value;
      return;
  }
}
