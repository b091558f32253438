/** @pilotlight/grpc-server: everything that an application needs. The rest is internal. */
export type {
  BidiHandler,
  ClientStreamHandler,
  CloseReason,
  MethodDefinition,
  MethodKind,
  ServerCall,
  ServerDuplex,
  ServerStream,
  ServerStreamHandler,
  UnaryHandler,
} from './api.ts';
export type { CompressionOptions } from './compression.ts';
export { EncodedMessage, encodeMessage } from './encoded-message.ts';
export { type AnyDetail, GrpcError, type GrpcErrorOptions, Status } from './errors.ts';
export { type HealthService, healthService } from './health.ts';
export type { KeepaliveOptions } from './keepalive.ts';
export { DEFAULT_LIMITS, type Limits } from './limits.ts';
export { Metadata, MetadataError } from './metadata.ts';
export type { Fallback, PlainRequest, PlainResponse } from './plain-exchange.ts';
export { reflectionService } from './reflection.ts';
export { GrpcServer, type GrpcServerOptions, type ListenOptions, type ServerStats } from './server.ts';
