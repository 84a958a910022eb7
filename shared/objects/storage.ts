/**
 * Objects as Kubernetes stores them in etcd. A value begins with
 *   "k8s\0"      protobuf: runtime.Unknown { 1 typeMeta { 1 apiVersion, 2 kind }, 2 raw } (apimachinery pkg/runtime/generated.proto)
 *   "{"          JSON: custom resources, or everything with --storage-media-type=application/json
 *   0xd9d9f7     CBOR: custom resources, with the gate CBORServingAndStorage; not decoded here
 *   "k8s:enc:"   encrypted at rest: k8s:enc:<provider>:v1:<key name>:, of KMS plugins also v2 (apiserver pkg/storage/value/encrypt)
 */
import { BYTES, Damaged, fieldsOf, Reader, VARINT } from "../etcd-data/protobuf.ts";
import { Fail } from "../fail.ts";
import { isCbor, SCALARS } from "./encodings.ts";
import { FIELDS } from "./fields.ts";
import type { StoredObject } from "./objects.ts";

/**
 * `encrypted`: provider, version and key name, such as "aescbc:v1:key1". `undecoded`: apiVersion and kind of
 * an object this table does not hold, such as "batch/v1 Job", "an object in CBOR", or "" if the bytes are
 * of none of these formats.
 */
type Decoded = StoredObject | { encrypted: string } | { undecoded: string };

export const DAMAGED_VALUE =
  "read the data of another etcd member, or a snapshot: the value is damaged in this data directory";

/** The kinds that can be decoded, by apiVersion. */
const KINDS: Record<string, string[]> = {
  v1: ["Pod", "ConfigMap", "Secret", "Node", "Service", "Namespace", "ServiceAccount"],
  "coordination.k8s.io/v1": ["Lease"],
  "apps/v1": ["Deployment", "ReplicaSet", "DaemonSet", "StatefulSet"],
  "policy/v1": ["PodDisruptionBudget"],
  "admissionregistration.k8s.io/v1": ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"],
};

/**
 * Decodes a value from etcd. Go writes zeros of fields that are not pointers whether they were set or not, so
 * those are dropped. Fields the table does not know are left out, see `unknownFields`. Bytes that do not
 * follow their format are a `Fail`.
 */
export function decodeObject(value: Uint8Array): Decoded {
  try {
    const head = Buffer.from(value.subarray(0, 256)).toString("latin1");
    if (head.startsWith("{")) return JSON.parse(Buffer.from(value).toString("utf8")) as StoredObject;
    if (head.startsWith("k8s:enc:")) return { encrypted: head.split(":").slice(2, 5).join(":") };
    if (head.startsWith("k8s\0")) return decodeUnknown(value.subarray(4));
    return { undecoded: isCbor(value) ? "an object in CBOR" : "" };
  } catch (cause) {
    if (!(cause instanceof Damaged || cause instanceof SyntaxError || cause instanceof RangeError))
      throw cause;
    throw new Fail(`Cannot decode an object stored in etcd: ${cause.message}`, {
      hint: DAMAGED_VALUE,
      cause,
    });
  }
}

/** Whether it was decoded: not encrypted, and of a kind the table holds. */
export function isObject(decoded: Decoded): decoded is StoredObject {
  return "kind" in decoded;
}

/**
 * Fields that a newer Kubernetes stored in this object and the table does not know: path and field number,
 * such as "spec.containers.99". Only for an object from `decodeObject`.
 */
export function unknownFields(object: StoredObject): string[] {
  return UNKNOWN_FIELDS.get(object) ?? [];
}

const UNKNOWN_FIELDS = new WeakMap<StoredObject, string[]>();

function decodeUnknown(message: Uint8Array): Decoded {
  const fields = fieldsOf(message);
  const typeMeta = fieldsOf(fields.bytes(1));
  const [apiVersion, kind] = [1, 2].map((number) => Buffer.from(typeMeta.bytes(number)).toString("utf8")) as [
    string,
    string,
  ];
  if (!Object.hasOwn(KINDS, apiVersion) || !KINDS[apiVersion]!.includes(kind))
    return { undecoded: `${apiVersion} ${kind}` };
  const place: Place = { path: "", unknown: [] };
  const object: StoredObject = {
    apiVersion,
    kind,
    metadata: { name: "" },
    ...decodeMessage(kind, fields.bytes(2), place),
  };
  UNKNOWN_FIELDS.set(object, place.unknown);
  return object;
}

interface Field {
  name: string;
  type: string;
  isList: boolean;
  isMap: boolean;
  isPointer: boolean;
  isInlined: boolean;
  wire: number;
}

type Message = Record<string, unknown>;

/** Message name → field number → field. */
const MESSAGES = new Map(
  FIELDS.trim()
    .split("\n")
    .map((line) => {
      const [message, fields] = line.split(": ") as [string, string];
      return [message, new Map(fields.split(", ").map(parseField))];
    }),
);

function parseField(text: string): [number, Field] {
  const [number, name, type] = text.split(" ") as [string, string, string];
  const field: Field = {
    name,
    type: type.replace(/\W+$/, ""),
    isList: type.endsWith("[]"),
    isMap: type.endsWith("{}"),
    isPointer: type.endsWith("?"),
    isInlined: type.endsWith("^"),
    wire: /^(int|bool)\b(?!\{)/.test(type) ? VARINT : BYTES,
  };
  return [Number(number), field];
}

/** The path of a message in the object, and the fields met so far that the table does not know. */
interface Place {
  path: string;
  unknown: string[];
}

function decodeMessage(type: string, message: Uint8Array, place: Place): Message {
  const fields = MESSAGES.get(type);
  if (!fields) throw new Error(`fields.ts has no message ${type}`);
  const object: Message = {};
  const reader = new Reader(message);
  while (!reader.done) {
    const tag = reader.tag();
    const field = fields.get(tag >>> 3);
    if (!field) skipUnknown(reader, tag, place);
    else if ((tag & 7) !== field.wire) throw new Damaged(`${type}.${field.name} has wire type ${tag & 7}`);
    else decodeField(object, field, { reader, place });
  }
  return object;
}

/** A newer release's field that holds nothing (Go writes those too) is no loss. */
function skipUnknown(reader: Reader, tag: number, place: Place) {
  const wire = tag & 7;
  const empty =
    wire === VARINT ? reader.int64() === 0n : wire === BYTES ? reader.bytes().length === 0 : undefined;
  if (empty === undefined) reader.skip(tag);
  const name = `${place.path}${tag >>> 3}`;
  if (!empty && !place.unknown.includes(name)) place.unknown.push(name);
}

function decodeField(object: Message, field: Field, from: { reader: Reader; place: Place }) {
  const place = field.isInlined ? from.place : { ...from.place, path: `${from.place.path}${field.name}.` };
  if (field.isMap) {
    const [key, value] = decodeMapEntry(field.type, from.reader.bytes(), place);
    object[field.name] ??= {};
    // not map[key] = value: "__proto__" is a valid key of a ConfigMap
    Object.defineProperty(object[field.name], key, {
      value,
      enumerable: true,
      writable: true,
      configurable: true,
    });
    return;
  }
  const value = decodeValue(field.type, from.reader, place);
  if (field.isList) {
    object[field.name] ??= [];
    (object[field.name] as unknown[]).push(value);
  } else if (field.isInlined) Object.assign(object, value);
  else if (field.isPointer || !isZero(value)) object[field.name] = value;
}

const MAP_ZEROS: Record<string, unknown> = { string: "", bytes: "", quantity: "0" };

function decodeMapEntry(type: string, message: Uint8Array, place: Place): [string, unknown] {
  let key = "";
  let value = MAP_ZEROS[type];
  const reader = new Reader(message);
  while (!reader.done) {
    const tag = reader.tag();
    if (tag >>> 3 === 1) key = reader.text();
    else if (tag >>> 3 === 2) value = decodeValue(type, reader, place);
    else reader.skip(tag);
  }
  return [key, value];
}

function isZero(value: unknown): boolean {
  if (typeof value === "object" && value !== null) return Object.keys(value).length === 0;
  return value === undefined || value === "" || value === 0 || value === false;
}

function decodeValue(type: string, reader: Reader, place: Place): unknown {
  const scalar = SCALARS[type];
  return scalar ? scalar(reader) : decodeMessage(type, reader.bytes(), place);
}
