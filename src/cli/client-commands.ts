import { setTimeout as sleep } from 'node:timers/promises';
import { styleText } from 'node:util';
import { toJsonString } from '@bufbuild/protobuf';
import { type Client, Code, ConnectError, createClient } from '@connectrpc/connect';
import {
  Activity,
  Cause,
  PresenceService,
  type StatusUpdateEvent,
  StatusUpdateEventSchema,
  UserStatus,
  type UserStatusData,
  UserStatusDataSchema,
} from '@pilotlight/proto/presence/v1/presence_pb.js';
import { grpcTransport } from './grpc-client.ts';
import { printable } from './printable.ts';

/** Where a command talks to, and where its answer goes. */
export interface CommandContext {
  /** Host and port, or URL, of a Pilotlight server's gRPC. */
  readonly address: string;
  /** For a server with authentication. */
  readonly token: string | undefined;
  readonly json: boolean;
  /** Whether answers are read by a person on a terminal. */
  readonly colour: boolean;
  /** Aborted when the user interrupts. */
  readonly signal: AbortSignal;
  readonly print: (line: string) => void;
}

/** What a command reports instead of an answer: one sentence. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
}

export async function setCommand(context: CommandContext, userId: string, status: string): Promise<void> {
  const wanted = { online: UserStatus.ONLINE, offline: UserStatus.OFFLINE }[status.toLowerCase()];
  if (wanted === undefined)
    throw new CommandError(`the status must be online or offline, not ${printable(status)}`);
  await call(context, async (client) => {
    const { data } = await client.setUserStatus({ userId, status: wanted });
    printStatus(context, data as UserStatusData);
  });
}

/** Deletes everything stored about a user. */
export async function deleteCommand(context: CommandContext, userId: string): Promise<void> {
  await call(context, async (client) => {
    const { success } = await client.deleteUser({ userId });
    context.print(printable(context.json ? JSON.stringify({ userId, success }) : `${userId} is deleted`));
  });
}

export async function getCommand(context: CommandContext, userIds: readonly string[]): Promise<void> {
  await call(context, async (client) => {
    const { data } = await client.getMultipleUserStatus({ userIds: [...userIds] });
    for (const status of data) printStatus(context, status);
  });
}

/** One heartbeat, or one every `everyMs` until interrupted. */
export async function heartbeatCommand(
  context: CommandContext,
  userId: string,
  everyMs: number | undefined,
): Promise<void> {
  await call(context, async (client) => {
    for (;;) {
      const { success, nextHeartbeatInMs } = await client.sendHeartbeat({ userId });
      if (context.json)
        context.print(
          printable(JSON.stringify({ userId, success, nextHeartbeatInMs: Number(nextHeartbeatInMs) })),
        );
      else if (success)
        context.print(`${printable(userId)} is alive; the next heartbeat is due in ${nextHeartbeatInMs} ms`);
      else context.print(`${printable(userId)} signed out a moment ago: not renewed`);
      if (everyMs === undefined) return;
      await sleep(everyMs, undefined, { signal: context.signal });
    }
  });
}

/** Prints the present state of each user, then a line for every change, until interrupted. */
export async function watchCommand(context: CommandContext, userIds: readonly string[]): Promise<void> {
  await call(context, async (client) => {
    const request = { watchUserIds: [...userIds] };
    for await (const event of client.subscribeStatusUpdates(request, { signal: context.signal })) {
      const json = () => printable(toJsonString(StatusUpdateEventSchema, event));
      context.print(context.json ? json() : eventLine(context, event));
    }
    throw new CommandError('the server ended the stream');
  });
}

async function call(
  context: CommandContext,
  command: (client: Client<typeof PresenceService>) => Promise<void>,
): Promise<void> {
  const transport = grpcTransport(context.address, context.token);
  try {
    await command(createClient(PresenceService, transport));
  } catch (error) {
    if (context.signal.aborted) return;
    if (error instanceof CommandError) throw error;
    const { code, rawMessage } = ConnectError.from(error);
    if (code === Code.Unavailable && rawMessage.includes('ECONNREFUSED')) {
      throw new CommandError(`no server answers at ${context.address}; start one with: pilotlight serve`);
    }
    throw new CommandError(`${printable(rawMessage)} (${Code[code]})`);
  }
}

function printStatus(context: CommandContext, data: UserStatusData): void {
  if (context.json) {
    context.print(printable(toJsonString(UserStatusDataSchema, data)));
    return;
  }
  const seen =
    data.lastSeen === 0n ? 'never seen' : `last seen ${new Date(Number(data.lastSeen)).toISOString()}`;
  context.print(`${printable(data.userId)}  ${light(context, data.status, data.activity)}  ${seen}`);
}

function eventLine(context: CommandContext, event: StatusUpdateEvent): string {
  const time = event.timestamp === 0n ? '-'.padEnd(24) : new Date(Number(event.timestamp)).toISOString();
  const why = event.snapshot ? 'now' : Cause[event.cause].toLowerCase();
  return `${time}  ${printable(event.userId)}  ${light(context, event.status, event.activity)}  ${why}`;
}

function light(context: CommandContext, status: UserStatus, activity: Activity): string {
  const isOnline = status === UserStatus.ONLINE;
  const text = isOnline ? `● ONLINE ${Activity[activity].toLowerCase()}` : '○ OFFLINE';
  return context.colour ? styleText(isOnline ? 'green' : 'dim', text, { validateStream: false }) : text;
}
