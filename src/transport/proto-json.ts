import {
  type DescField,
  type DescMessage,
  fromJson,
  type JsonObject,
  type JsonValue,
  type MessageShape,
  ScalarType,
} from '@bufbuild/protobuf';
import { UserStatusSchema } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { PresenceError } from '../core/errors.ts';

/**
 * Reads a message from proto3 JSON. Fields that this server does not know are ignored, names of enum values that it does
 * not know are not: the library would take both for left out.
 *
 * @throws PresenceError INVALID_ARGUMENT, INVALID_STATUS: the field is named
 */
export function readJson<Desc extends DescMessage>(desc: Desc, json: JsonValue): MessageShape<Desc> {
  try {
    return fromJson(desc, json);
  } catch (error) {
    const problem = problemOf(desc, json, '');
    if (problem) throw problem;
    return readTolerant(desc, json, error);
  }
}

/**
 * Reads a message of whose fields all must be known: a body that a person wrote.
 *
 * @throws PresenceError INVALID_ARGUMENT, INVALID_STATUS: the field is named
 */
export function readStrictJson<Desc extends DescMessage>(desc: Desc, json: JsonValue): MessageShape<Desc> {
  if (isObject(json)) {
    const unknown = Object.keys(json).find(
      (key) => !desc.fields.some(({ name, jsonName }) => name === key || jsonName === key),
    );
    if (unknown !== undefined) {
      throw PresenceError.invalidArgument(unknown.slice(0, 100), 'is not a field of this request');
    }
  }
  return readJson(desc, json);
}

function readTolerant<Desc extends DescMessage>(desc: Desc, json: JsonValue, first: unknown) {
  try {
    return fromJson(desc, json, { ignoreUnknownFields: true });
  } catch {
    const message = `the JSON is not that of a valid ${desc.typeName}`;
    throw new PresenceError('INVALID_ARGUMENT', message, { cause: first });
  }
}

/**
 * The first field whose value its type does not have; null: none, as far as one field tells.
 *
 * @param path of the message, as proto names it; empty: the whole
 */
export function problemOf(desc: DescMessage, json: JsonValue, path: string): PresenceError | null {
  if (!isObject(json)) return PresenceError.invalidArgument(path || 'the JSON', 'must be an object');
  for (const [key, value] of Object.entries(json)) {
    const field = desc.fields.find(({ name, jsonName }) => name === key || jsonName === key);
    if (!field || value === null) continue;
    const at = path === '' ? field.name : `${path}.${field.name}`;
    const problem =
      field.fieldKind === 'list' ? problemOfList(field, value, at) : problemOfValue(field, value, at);
    if (problem) return problem;
  }
  return null;
}

export function isObject(json: JsonValue): json is JsonObject {
  return typeof json === 'object' && json !== null && !Array.isArray(json);
}

function problemOfList(field: DescField, value: JsonValue, at: string): PresenceError | null {
  if (!Array.isArray(value)) return PresenceError.invalidArgument(at, 'must be a list');
  if (canRead(field, value)) return null;
  for (const [index, item] of value.entries()) {
    if (!canRead(field, [item])) return PresenceError.invalidArgument(`${at}[${index}]`, mustBe(field));
  }
  return PresenceError.invalidArgument(at, 'is not valid');
}

function problemOfValue(field: DescField, value: JsonValue, at: string): PresenceError | null {
  if (field.fieldKind === 'message') return problemOf(field.message, value, at);
  if (canRead(field, value)) return null;
  if (field.enum === UserStatusSchema) {
    return new PresenceError('INVALID_STATUS', 'status must be ONLINE or OFFLINE');
  }
  return PresenceError.invalidArgument(at, mustBe(field));
}

function canRead(field: DescField, value: JsonValue): boolean {
  try {
    fromJson(field.parent, { [field.name]: value });
    return true;
  } catch {
    return false;
  }
}

function mustBe(field: DescField): string {
  if (field.enum) return `must be one of ${field.enum.values.map(({ name }) => name).join(', ')}`;
  switch (field.scalar) {
    case ScalarType.STRING:
      return 'must be a string';
    case ScalarType.BOOL:
      return 'must be true or false';
    default:
      return 'must be a whole number in the range of its type';
  }
}
