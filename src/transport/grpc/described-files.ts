import { type DescFile, toBinary } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import { file_google_rpc_error_details } from '@pilotlight/proto/google/rpc/error_details_pb.js';
import { file_google_rpc_status } from '@pilotlight/proto/google/rpc/status_pb.js';
import { file_grpc_health_v1_health } from '@pilotlight/proto/grpc/health/v1/health_pb.js';
import { file_grpc_reflection_v1_reflection } from '@pilotlight/proto/grpc/reflection/v1/reflection_pb.js';
import { file_grpc_reflection_v1alpha_reflection } from '@pilotlight/proto/grpc/reflection/v1alpha/reflection_pb.js';
import { file_presence_v1_presence } from '@pilotlight/proto/presence/v1/presence_pb.js';

/** Encoded descriptors of every service on the gRPC port, of what errors carry, and of all that these import. */
export function describedFiles(): Uint8Array[] {
  const files = new Set<DescFile>();
  const add = (file: DescFile): void => {
    if (files.has(file)) return;
    files.add(file);
    file.dependencies.forEach(add);
  };
  [
    file_presence_v1_presence,
    file_google_rpc_error_details,
    file_google_rpc_status,
    file_grpc_health_v1_health,
    file_grpc_reflection_v1_reflection,
    file_grpc_reflection_v1alpha_reflection,
  ].forEach(add);
  return [...files].map((file) => toBinary(FileDescriptorProtoSchema, file.proto));
}
