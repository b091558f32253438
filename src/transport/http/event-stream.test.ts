import assert from 'node:assert/strict';
import { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import { it } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { EventStreams } from './event-stream.ts';

it('a stream whose client has left before it began is closed like any other', async () => {
  const streams = new EventStreams();
  const response = new ServerResponse(new IncomingMessage(new Socket()));
  response.destroy();
  await turn();
  let closed = 0;
  streams.add(response, { drained: () => {}, closed: () => closed++ });
  assert.equal(streams.stats().streams, 1);
  await turn();
  assert.equal(closed, 1);
  assert.equal(streams.stats().streams, 0);
});
