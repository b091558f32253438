import type { BidiHandler, GrpcServer, MethodDefinition, ServerCall } from '@pilotlight/grpc-server';
import { PresenceError } from '../../core/errors.ts';
import type { Principal } from '../../core/principal.ts';
import type { TraceCarrier } from '../../observe/tracing.ts';
import type { PresenceApi } from '../../presence/presence-api.ts';
import type { Caller, Gate } from '../../security/gate.ts';
import type { Doorway } from '../presence-calls.ts';
import { toGrpcError } from './errors.ts';

/** Who calls; looked up only when somebody asks. */
export function callerOf(call: ServerCall): Caller {
  return new GrpcCaller(call);
}

class GrpcCaller implements Caller {
  readonly #call: ServerCall;

  constructor(call: ServerCall) {
    this.#call = call;
  }

  get authorization(): string | undefined {
    return this.#call.metadata.get('authorization');
  }

  get address(): string {
    return addressOf(this.#call.peer);
  }

  get port(): number {
    const { peer } = this.#call;
    return Number(peer.slice(peer.lastIndexOf(':') + 1));
  }

  readonly header = (name: string): string | undefined => {
    const values = this.#call.metadata.getAll(name);
    return values.length === 0 ? undefined : values.join(',');
  };

  get entered(): PresenceApi | undefined {
    return this.#call.context as PresenceApi | undefined;
  }

  get trace(): TraceCarrier {
    return this.#call.metadata;
  }
}

/** `127.0.0.1:4711` or `[::1]:4711` without the port. */
export function addressOf(peer: string): string {
  return peer.slice(0, peer.lastIndexOf(':'));
}

/** Settles who calls by the head of the call. */
export function admitTo(doorway: Doorway, method: string): (call: ServerCall) => void | Promise<void> {
  return (call) => {
    const entered = doorway.enter(method, new GrpcCaller(call));
    if (entered instanceof Promise) {
      return entered.then((presence) => {
        call.context = presence;
      });
    }
    call.context = entered;
    return undefined;
  };
}

/** The same server, on which bidirectional methods are registered for operators only. */
export function behindScope(server: GrpcServer, gate: Gate): GrpcServer {
  const guarded: GrpcServer = Object.create(server);
  guarded.bidi = <I, O>(definition: MethodDefinition<I, O>, handler: BidiHandler<I, O>) =>
    server.bidi(
      {
        ...definition,
        admit: async (call) => {
          call.context = await gate.operate(callerOf(call)).catch((error: unknown) => {
            throw toGrpcError(PresenceError.from(error));
          });
        },
      },
      (stream) => {
        const operator = stream.context as Principal | null;
        stream.onClose(gate.holdOperator(operator, (error) => stream.fail(toGrpcError(error))));
        return handler(stream);
      },
    );
  return guarded;
}
