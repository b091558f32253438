/**
 * Server reflection, grpc.reflection.v1 and v1alpha (same messages): what grpcurl and Postman ask to learn
 * the API. Works on encoded FileDescriptorProtos and reads no more of them than names.
 */
import type { MethodDefinition, ServerDuplex } from './api.ts';
import { Status } from './errors.ts';
import { type ProtoField, ProtoWriter, readFields, utf8 } from './protobuf-lite.ts';
import type { GrpcServer } from './server.ts';

/** Of one question: names of files and symbols. The answer echoes it. */
const MAX_REQUEST_BYTES = 4_096;

// Field numbers of ServerReflectionRequest.
const REQUEST = {
  HOST: 1,
  FILE_BY_FILENAME: 3,
  FILE_CONTAINING_SYMBOL: 4,
  FILE_CONTAINING_EXTENSION: 5,
  ALL_EXTENSION_NUMBERS_OF_TYPE: 6,
  LIST_SERVICES: 7,
} as const;

interface Request {
  readonly host: string;
  /** Number of the one that was asked; 0: none. */
  readonly question: number;
  readonly argument: Uint8Array;
  readonly raw: Uint8Array;
}

/** What one .proto file defines. */
interface ProtoFile {
  readonly name: string;
  readonly dependencies: readonly string[];
  readonly symbols: readonly string[];
  readonly extensions: readonly { readonly type: string; readonly number: number }[];
  readonly bytes: Uint8Array;
}

/** Registers both versions. `fileDescriptorProtos`: encoded files, dependencies included. Throws on bytes that are no such thing. */
export function reflectionService(server: GrpcServer, fileDescriptorProtos: readonly Uint8Array[]): void {
  const files = fileDescriptorProtos.map(readFile);
  const catalogue = new Catalogue(files);
  for (const version of ['v1', 'v1alpha']) {
    const definition: MethodDefinition<Request, Uint8Array> = {
      path: `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`,
      kind: 'bidi',
      maxRequestBytes: MAX_REQUEST_BYTES,
      decode: decodeRequest,
      encode: (response) => response,
    };
    server.bidi(definition, (stream) => serve(stream, catalogue, server));
  }
}

function serve(stream: ServerDuplex<Request, Uint8Array>, catalogue: Catalogue, server: GrpcServer): void {
  stream.sendHeaders();
  stream.onMessage((request) => {
    if (!stream.send(answer(request, catalogue, server))) stream.pause();
  });
  stream.onDrain(() => stream.resume());
  stream.onHalfClose(() => stream.end());
}

/** ServerReflectionResponse */
function answer(request: Request, catalogue: Catalogue, server: GrpcServer): Uint8Array {
  const response = new ProtoWriter();
  response.string(1, request.host);
  response.bytes(2, request.raw);
  const argument = utf8(request.argument);
  switch (request.question) {
    case REQUEST.FILE_BY_FILENAME:
      writeFiles(response, catalogue.filesFor(catalogue.byName.get(argument)), `file ${argument}`);
      break;
    case REQUEST.FILE_CONTAINING_SYMBOL:
      writeFiles(response, catalogue.filesFor(catalogue.bySymbol.get(argument)), `symbol ${argument}`);
      break;
    case REQUEST.FILE_CONTAINING_EXTENSION: {
      const { text: type, number } = readNamedNumber(request.argument);
      const file = catalogue.byExtension.get(`${type}#${number}`);
      writeFiles(response, catalogue.filesFor(file), `extension ${number} of ${type}`);
      break;
    }
    case REQUEST.ALL_EXTENSION_NUMBERS_OF_TYPE:
      writeExtensionNumbers(response, argument, catalogue);
      break;
    case REQUEST.LIST_SERVICES:
      writeServices(response, server.methodPaths, catalogue);
      break;
    default:
      writeError(response, Status.INVALID_ARGUMENT, 'no question in the request');
  }
  return response.finish();
}

/** FileDescriptorResponse { repeated bytes file_descriptor_proto = 1; } as field 4. */
function writeFiles(response: ProtoWriter, files: readonly ProtoFile[], what: string): void {
  if (files.length === 0) {
    writeError(response, Status.NOT_FOUND, `${what} not found`);
    return;
  }
  const body = new ProtoWriter();
  for (const file of files) body.bytes(1, file.bytes);
  response.message(4, body);
}

/** ExtensionNumberResponse { string base_type_name = 1; repeated int32 extension_number = 2; } as field 5. */
function writeExtensionNumbers(response: ProtoWriter, type: string, catalogue: Catalogue): void {
  if (!catalogue.bySymbol.has(type)) {
    writeError(response, Status.NOT_FOUND, `type ${type} not found`);
    return;
  }
  const body = new ProtoWriter();
  body.string(1, type);
  for (const number of catalogue.extensionNumbers(type)) body.int32(2, number);
  response.message(5, body);
}

/** ListServiceResponse { repeated ServiceResponse { string name = 1; } service = 1; } as field 6. */
function writeServices(response: ProtoWriter, methodPaths: readonly string[], catalogue: Catalogue): void {
  const names = new Set(methodPaths.map((path) => path.slice(1, path.lastIndexOf('/'))));
  const body = new ProtoWriter();
  for (const name of [...names].sort()) {
    // A client describes whatever is listed, and stops at what it cannot.
    if (!catalogue.bySymbol.has(name)) continue;
    const service = new ProtoWriter();
    service.string(1, name);
    body.message(1, service);
  }
  response.message(6, body);
}

/** ErrorResponse { int32 error_code = 1; string error_message = 2; } as field 7. */
function writeError(response: ProtoWriter, status: number, message: string): void {
  const body = new ProtoWriter();
  body.int32(1, status);
  body.string(2, message);
  response.message(7, body);
}

class Catalogue {
  readonly byName = new Map<string, ProtoFile>();
  readonly bySymbol = new Map<string, ProtoFile>();
  readonly byExtension = new Map<string, ProtoFile>();

  constructor(files: readonly ProtoFile[]) {
    for (const file of files) {
      this.byName.set(file.name, file);
      for (const symbol of file.symbols) this.bySymbol.set(symbol, file);
      for (const { type, number } of file.extensions) this.byExtension.set(`${type}#${number}`, file);
    }
  }

  /** The file and everything that it imports, directly or not. */
  filesFor(file: ProtoFile | undefined): ProtoFile[] {
    const found = new Set<ProtoFile>();
    const open = file === undefined ? [] : [file];
    for (let next = open.pop(); next !== undefined; next = open.pop()) {
      if (found.has(next)) continue;
      found.add(next);
      for (const name of next.dependencies) {
        const dependency = this.byName.get(name);
        if (dependency !== undefined) open.push(dependency);
      }
    }
    return [...found];
  }

  extensionNumbers(type: string): number[] {
    const prefix = `${type}#`;
    const keys = [...this.byExtension.keys()].filter((key) => key.startsWith(prefix));
    return keys.map((key) => Number(key.slice(prefix.length))).sort((a, b) => a - b);
  }
}

function decodeRequest(bytes: Uint8Array): Request {
  let host = '';
  let question = 0;
  let argument: Uint8Array = bytes.subarray(0, 0);
  // The answer echoes the request, and may outlive these bytes.
  const raw = Uint8Array.from(bytes);
  for (const field of readFields(raw)) {
    if (field.number === REQUEST.HOST) {
      host = utf8(field.bytes);
    } else if (field.number >= REQUEST.FILE_BY_FILENAME && field.number <= REQUEST.LIST_SERVICES) {
      question = field.number;
      argument = field.bytes;
    }
  }
  return { host, question, argument, raw };
}

/** ExtensionRequest { string containing_type = 1; int32 extension_number = 2; } */
function readNamedNumber(bytes: Uint8Array): { text: string; number: number } {
  let text = '';
  let number = 0;
  for (const field of readFields(bytes)) {
    if (field.number === 1) text = utf8(field.bytes);
    else if (field.number === 2) number = field.varint;
  }
  return { text, number };
}

/**
 * FileDescriptorProto { name = 1; package = 2; dependency = 3; message_type = 4; enum_type = 5; service = 6;
 * extension = 7; }
 */
function readFile(bytes: Uint8Array): ProtoFile {
  const fields = [...readFields(bytes)];
  const packageName = text(fields, 2);
  const prefix = packageName === '' ? '' : `${packageName}.`;
  const symbols: string[] = [];
  const extensions: { type: string; number: number }[] = [];
  for (const field of fields) {
    if (field.number === 4) {
      collectMessage(field.bytes, prefix, symbols, extensions);
    } else if (field.number === 5) {
      collectEnum(field.bytes, prefix, symbols);
    } else if (field.number === 6) {
      const service = [...readFields(field.bytes)];
      const name = prefix + text(service, 1);
      symbols.push(name, ...names(service, 2).map((method) => `${name}.${method}`));
    } else if (field.number === 7) {
      collectExtension(field.bytes, prefix, symbols, extensions);
    }
  }
  const dependencies = fields.filter((field) => field.number === 3).map((field) => utf8(field.bytes));
  return { name: text(fields, 1), dependencies, symbols, extensions, bytes };
}

/** EnumDescriptorProto { name = 1; value = 2; }: values stand beside their enum. */
function collectEnum(bytes: Uint8Array, prefix: string, symbols: string[]): void {
  const fields = [...readFields(bytes)];
  symbols.push(prefix + text(fields, 1), ...names(fields, 2).map((value) => prefix + value));
}

/** DescriptorProto { name = 1; field = 2; nested_type = 3; enum_type = 4; extension = 6; oneof_decl = 8; } */
function collectMessage(
  bytes: Uint8Array,
  prefix: string,
  symbols: string[],
  extensions: { type: string; number: number }[],
): void {
  const fields = [...readFields(bytes)];
  const name = prefix + text(fields, 1);
  symbols.push(name);
  for (const field of fields) {
    if (field.number === 3) collectMessage(field.bytes, `${name}.`, symbols, extensions);
    else if (field.number === 4) collectEnum(field.bytes, `${name}.`, symbols);
    else if (field.number === 6) collectExtension(field.bytes, `${name}.`, symbols, extensions);
  }
  for (const number of [2, 8]) symbols.push(...names(fields, number).map((member) => `${name}.${member}`));
}

/** FieldDescriptorProto { name = 1; extendee = 2 ('.package.Type'); number = 3; } */
function collectExtension(
  bytes: Uint8Array,
  prefix: string,
  symbols: string[],
  extensions: { type: string; number: number }[],
): void {
  const fields = [...readFields(bytes)];
  const number = fields.find((field) => field.number === 3)?.varint ?? 0;
  extensions.push({ type: text(fields, 2).replace(/^\./, ''), number });
  symbols.push(prefix + text(fields, 1));
}

function text(fields: readonly ProtoField[], number: number): string {
  const field = fields.findLast((candidate) => candidate.number === number);
  return field === undefined ? '' : utf8(field.bytes);
}

/** The names (field 1) of all sub-messages with this number. */
function names(fields: readonly ProtoField[], number: number): string[] {
  return fields
    .filter((field) => field.number === number)
    .map((field) => text([...readFields(field.bytes)], 1));
}
