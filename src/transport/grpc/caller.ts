import type {
  BidiHandler,
  GrpcServer,
  MethodDefinition,
  ServerCall,
  ServerDuplex,
} from '@pilotlight/grpc-server';
import { PresenceError } from '../../core/errors.ts';
import type { TraceCarrier } from '../../observe/tracing.ts';
import type { Caller, Gate } from '../../security/gate.ts';
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

  get trace(): TraceCarrier {
    return this.#call.metadata;
  }
}

/** `127.0.0.1:4711` or `[::1]:4711` without the port. */
export function addressOf(peer: string): string {
  return peer.slice(0, peer.lastIndexOf(':'));
}

/** The same server, on which bidirectional methods are registered for operators only. */
export function behindScope(server: GrpcServer, gate: Gate): GrpcServer {
  const guarded: GrpcServer = Object.create(server);
  guarded.bidi = <I, O>(definition: MethodDefinition<I, O>, handler: BidiHandler<I, O>) =>
    server.bidi(definition, async (stream: ServerDuplex<I, O>) => {
      try {
        await gate.operate(callerOf(stream));
      } catch (error) {
        throw toGrpcError(PresenceError.from(error));
      }
      return handler(stream);
    });
  return guarded;
}
