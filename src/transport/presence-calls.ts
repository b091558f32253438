import type { MessageInitShape } from '@bufbuild/protobuf';
import type {
  DeleteUserRequest,
  DeleteUserResponseSchema,
  GetConnectionsRequest,
  GetConnectionsResponseSchema,
  GetMultipleUserStatusRequest,
  GetMultipleUserStatusResponseSchema,
  GetPrivacyRequest,
  GetPrivacyResponseSchema,
  GetUserStatusRequest,
  GetUserStatusResponseSchema,
  RevokeTokensRequest,
  RevokeTokensResponseSchema,
  SendHeartbeatRequest,
  SendHeartbeatResponseSchema,
  SetPrivacyRequest,
  SetPrivacyResponseSchema,
  SetUserStatusRequest,
  SetUserStatusResponseSchema,
} from '@pilotlight/proto/presence/v1/presence_pb.js';
import { PresenceError } from '../core/errors.ts';
import type { Log } from '../observe/log.ts';
import { CallMeter } from '../observe/measure.ts';
import { SpanKind, type TraceCarrier, type Tracing } from '../observe/tracing.ts';
import type { PresenceApi } from '../presence/presence-api.ts';
import type { Caller, Gate } from '../security/gate.ts';
import { fromProtoActivity, fromProtoStatus, toConnection, toStatusData } from './grpc/codec.ts';
import { fromSetPrivacy, toPrivacy } from './privacy-messages.ts';

/** The contract's unary rpcs, message to message: what all transports share. */
export function presenceCalls(presence: PresenceApi) {
  return {
    async setUserStatus(
      request: Pick<SetUserStatusRequest, 'userId' | 'status' | 'activity'>,
    ): Promise<MessageInitShape<typeof SetUserStatusResponseSchema>> {
      const status = fromProtoStatus(request.status);
      const state = await presence.setStatus(request.userId, status, fromProtoActivity(request.activity));
      return { success: true, message: `${state.userId} is ${state.status}`, data: toStatusData(state) };
    },

    async getUserStatus({
      userId,
    }: Pick<GetUserStatusRequest, 'userId'>): Promise<MessageInitShape<typeof GetUserStatusResponseSchema>> {
      return { success: true, data: toStatusData(await presence.getStatus(userId)) };
    },

    async getMultipleUserStatus({
      userIds,
    }: Pick<GetMultipleUserStatusRequest, 'userIds'>): Promise<
      MessageInitShape<typeof GetMultipleUserStatusResponseSchema>
    > {
      return { success: true, data: (await presence.getStatuses(userIds)).map(toStatusData) };
    },

    async getConnections({
      userId,
    }: Pick<GetConnectionsRequest, 'userId'>): Promise<
      MessageInitShape<typeof GetConnectionsResponseSchema>
    > {
      return { success: true, connections: (await presence.getConnections(userId)).map(toConnection) };
    },

    async setPrivacy({
      userId,
      ...request
    }: Omit<SetPrivacyRequest, '$typeName'>): Promise<MessageInitShape<typeof SetPrivacyResponseSchema>> {
      const privacy = await presence.setPrivacy(userId, fromSetPrivacy(request));
      return { success: true, privacy: toPrivacy(privacy) };
    },

    async getPrivacy({
      userId,
    }: Pick<GetPrivacyRequest, 'userId'>): Promise<MessageInitShape<typeof GetPrivacyResponseSchema>> {
      return { success: true, privacy: toPrivacy(await presence.getPrivacy(userId)) };
    },

    async revokeTokens({
      userId,
      tokenId,
      keepForMs,
    }: Omit<RevokeTokensRequest, '$typeName'>): Promise<MessageInitShape<typeof RevokeTokensResponseSchema>> {
      const untilMs = await presence.revokeTokens({ userId, tokenId, keepForMs: Number(keepForMs) });
      return { success: true, revokedUntil: BigInt(untilMs) };
    },

    async deleteUser({
      userId,
    }: Pick<DeleteUserRequest, 'userId'>): Promise<MessageInitShape<typeof DeleteUserResponseSchema>> {
      await presence.deleteUser(userId);
      return { success: true };
    },

    async sendHeartbeat({
      userId,
    }: Pick<SendHeartbeatRequest, 'userId'>): Promise<MessageInitShape<typeof SendHeartbeatResponseSchema>> {
      const { accepted, nextInMs } = await presence.heartbeat(userId);
      return {
        success: accepted,
        nextHeartbeatInSeconds: BigInt(Math.max(1, Math.floor(nextInMs / 1000))),
        nextHeartbeatInMs: BigInt(nextInMs),
      };
    },
  };
}

export interface DoorwayOptions {
  /** Name of the transport in metrics and spans. */
  readonly transport: string;
  readonly log: Log;
  readonly tracing: Tracing;
  readonly gate: Gate;
  /** The transport's face of an error. */
  readonly toError: (error: PresenceError) => Error;
}

/**
 * The one way from a transport to the use cases and back: every call passes the gate, is timed and traced, and what a use
 * case throws becomes the transport's error; a bug is logged, its cause never sent.
 */
export class Doorway {
  readonly calls = new CallMeter();
  readonly #options: DoorwayOptions;

  constructor(options: DoorwayOptions) {
    this.#options = options;
  }

  /**
   * Who calls, by the head of a call: before its message is read.
   *
   * @param method the rpc's name in the contract
   * @throws the transport's face of UNAUTHORIZED, RATE_LIMITED
   */
  enter(method: string, caller: Caller): PresenceApi | Promise<PresenceApi> {
    const refused = (error: unknown): never => {
      throw this.#failed(method, error, performance.now());
    };
    try {
      const entered = this.#options.gate.enter(caller, method);
      return entered instanceof Promise ? entered.catch(refused) : entered;
    } catch (error) {
      return refused(error);
    }
  }

  /** @param method the rpc's name in the contract */
  async pass<Result>(
    method: string,
    caller: Caller,
    work: (presence: PresenceApi) => Promise<Result>,
  ): Promise<Result> {
    const startMs = performance.now();
    const { tracing, gate } = this.#options;
    gate.limits.beginCall();
    try {
      const entered = caller.entered ?? gate.enter(caller);
      const presence = entered instanceof Promise ? await entered : entered;
      const result = await (tracing.isOn
        ? this.#traced(method, () => work(presence), caller.trace)
        : work(presence));
      this.calls.observe(method, 'OK', startMs);
      return result;
    } catch (error) {
      throw this.#failed(method, error, startMs);
    } finally {
      gate.limits.endCall();
    }
  }

  #failed(method: string, error: unknown, startMs: number): Error {
    const known = PresenceError.from(error);
    this.calls.observe(method, known.code, startMs);
    if (known.code === 'INTERNAL') this.#options.log.error({ err: error }, 'internal error');
    return this.#options.toError(known);
  }

  #traced<Result>(
    method: string,
    work: () => Promise<Result>,
    trace: TraceCarrier | undefined,
  ): Promise<Result> {
    const attributes = {
      'rpc.system': this.#options.transport,
      'rpc.service': 'presence.v1.PresenceService',
      'rpc.method': method,
    };
    return this.#options.tracing.run(
      `presence.v1.PresenceService/${method}`,
      SpanKind.SERVER,
      attributes,
      work,
      trace,
    );
  }
}
