import type { DescEnum, DescField, DescMessage } from '@bufbuild/protobuf';
import { ScalarType } from '@bufbuild/protobuf';

export type JsonSchema = { readonly [keyword: string]: unknown };

/**
 * The JSON Schema of a message in proto3 JSON with every field present, derived from the contract itself, so that the
 * OpenAPI document cannot drift from it.
 */
export function messageSchema(message: DescMessage): JsonSchema {
  return {
    type: 'object',
    title: message.name,
    additionalProperties: false,
    // A field that is a message is left out when it is not set.
    required: message.fields.filter((field) => field.fieldKind !== 'message').map((field) => field.jsonName),
    properties: Object.fromEntries(message.fields.map((field) => [field.jsonName, fieldSchema(field)])),
  };
}

export function enumSchema(description: DescEnum): JsonSchema {
  return { type: 'string', enum: description.values.map((value) => value.name) };
}

function fieldSchema(field: DescField): JsonSchema {
  switch (field.fieldKind) {
    case 'scalar':
      return scalarSchema(field.scalar);
    case 'enum':
      return enumSchema(field.enum);
    case 'message':
      return messageSchema(field.message);
    case 'list':
      return { type: 'array', items: elementSchema(field) };
    case 'map':
      throw new Error(`${field}: maps are not used by the contract`);
  }
}

function elementSchema(field: DescField & { fieldKind: 'list' }): JsonSchema {
  switch (field.listKind) {
    case 'scalar':
      return scalarSchema(field.scalar);
    case 'enum':
      return enumSchema(field.enum);
    case 'message':
      return messageSchema(field.message);
  }
}

function scalarSchema(scalar: ScalarType): JsonSchema {
  switch (scalar) {
    case ScalarType.STRING:
      return { type: 'string' };
    case ScalarType.BOOL:
      return { type: 'boolean' };
    case ScalarType.BYTES:
      return { type: 'string', contentEncoding: 'base64' };
    case ScalarType.DOUBLE:
    case ScalarType.FLOAT:
      return { type: 'number' };
    case ScalarType.INT64:
    case ScalarType.UINT64:
    case ScalarType.SINT64:
    case ScalarType.FIXED64:
    case ScalarType.SFIXED64:
      return {
        type: 'string',
        pattern: '^-?[0-9]{1,20}$',
        description: 'A 64-bit number, as proto3 JSON writes it.',
      };
    default:
      return { type: 'integer' };
  }
}
