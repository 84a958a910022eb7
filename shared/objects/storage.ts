/**
 * Objects as Kubernetes stores them in etcd. A value begins with
 *   "k8s\0"      protobuf: runtime.Unknown { 1 typeMeta { 1 apiVersion, 2 kind }, 2 raw } (apimachinery pkg/runtime/generated.proto)
 *   "{"          JSON: custom resources, or everything with --storage-media-type=application/json
 *   0xd9d9f7     CBOR: custom resources, with the gate CBORServingAndStorage; not decoded here
 *   "k8s:enc:"   encrypted at rest: k8s:enc:<provider>:v1:<key name>:, of KMS plugins also v2 (apiserver pkg/storage/value/encrypt)
 */
import { BYTES, Damaged, fieldsOf, Reader, VARINT } from "../etcd-data/protobuf.ts";
import { Fail } from "../fail.ts";
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

/** The kinds that can be decoded, by apiVersion: those that are read in etcd's data. */
const KINDS: Record<string, string[]> = {
  v1: ["Pod", "ConfigMap", "Secret", "Node", "Namespace"],
  "coordination.k8s.io/v1": ["Lease"],
  "admissionregistration.k8s.io/v1": ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"],
};

/**
 * Decodes a value from etcd. Go writes zeros of fields that are not pointers whether they were set or not, so
 * those are dropped. Fields that the table does not have are left out, see `unknownFields`. Bytes that do not
 * follow their format are a `Fail`.
 */
export function decodeObject(value: Uint8Array): Decoded {
  return failIfDamaged(() => {
    const head = Buffer.from(value.subarray(0, 256)).toString("latin1");
    if (head.startsWith("{")) return JSON.parse(Buffer.from(value).toString("utf8")) as StoredObject;
    if (head.startsWith("k8s:enc:")) return { encrypted: head.split(":").slice(2, 5).join(":") };
    if (head.startsWith("k8s\0")) return decodeUnknown(value.subarray(4));
    return { undecoded: isCbor(value) ? "an object in CBOR" : "" };
  });
}

function failIfDamaged<T>(read: () => T): T {
  try {
    return read();
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
 * Fields that this version does not know, as path and field number: "spec.containers.99". In a pod's spec they come
 * from a newer Kubernetes. Only for an object from `decodeObject`.
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

/** The metadata of any kind, of which `raw` is the message: all have it first. Errors: as `decodeObject`. */
export function decodeMetadata(raw: Uint8Array): StoredObject["metadata"] {
  return failIfDamaged(() => {
    const metadata = decodeMessage("ObjectMeta", fieldsOf(raw).bytes(1), { path: "", unknown: [] });
    return { name: "", ...metadata };
  });
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

const MESSAGES = new Map(
  FIELDS.trim()
    .split("\n")
    .map((line) => {
      const [message, fields] = line.split(": ") as [string, string];
      return [message, new Map(fields.split(", ").map(parseField))];
    }),
);

function parseField(text: string): [number, Field] {
  const [number, name, type = ""] = text.split(" ") as [string, string, string?];
  const field: Field = {
    name,
    type: type.replace(/\W+$/, "") || "string",
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

/**
 * Decodes scalars as Go's MarshalJSON shows them (apimachinery pkg/apis/meta/v1, pkg/util/intstr, pkg/api/resource). An int beyond 2^53 becomes its decimal text: JavaScript's
 * numbers cannot hold it.
 */
export const SCALARS: Record<string, (reader: Reader) => unknown> = {
  string: (reader) => reader.text(),
  bytes: (reader) => Buffer.from(reader.bytes()).toString("base64"),
  bool: (reader) => reader.int64() !== 0n,
  int: (reader) => toNumber(reader.int64()),
  time: (reader) => time(reader.bytes(), 0),
  microtime: (reader) => time(reader.bytes(), 6),
  quantity: (reader) => scalarFields(reader.bytes())[1] ?? "0",
  // IntOrString { 1 type (0 int, 1 string), 2 intVal, 3 strVal }
  intorstring: (reader) => {
    const { 1: type = 0, 2: int = 0, 3: text = "" } = scalarFields(reader.bytes());
    return type === 1 ? text : int;
  },
  json: (reader) => JSON.parse(String(scalarFields(reader.bytes())[1] || "null")),
};

function toNumber(value: bigint): number | string {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value.toString();
}

/** Timestamp { 1 seconds, 2 nanos }; Go's zero time is an empty message. */
function time(message: Uint8Array, digits: number): string | undefined {
  if (message.length === 0) return undefined;
  const { 1: seconds = 0, 2: nanos = 0 } = scalarFields(message);
  const date = new Date(Number(seconds) * 1000);
  if (Number.isNaN(date.getTime())) throw new Damaged(`time of ${seconds} seconds`);
  const fraction = digits ? `.${String(nanos).padStart(9, "0").slice(0, digits)}` : "";
  return `${date.toISOString().slice(0, -5)}${fraction}Z`;
}

/** Field number → number or text, for a message with scalars only. */
function scalarFields(message: Uint8Array): Record<number, number | string> {
  const values: Record<number, number | string> = {};
  const reader = new Reader(message);
  while (!reader.done) {
    const tag = reader.tag();
    const wire = tag & 7;
    if (wire === VARINT) values[tag >>> 3] = toNumber(reader.int64());
    else if (wire === BYTES) values[tag >>> 3] = reader.text();
    else reader.skip(tag);
  }
  return values;
}

/** "Self-described CBOR" (RFC 8949, 3.4.6; apimachinery pkg/runtime/serializer/cbor), before a custom resource's map. */
const TAG = Buffer.from([0xd9, 0xd9, 0xf7]);

function isCbor(value: Uint8Array): boolean {
  return TAG.equals(value.subarray(0, TAG.length));
}

/** Whether a value is one whole map in CBOR, to its last byte. */
export function isCborMap(value: Uint8Array): boolean {
  if (!isCbor(value) || value[TAG.length]! >> 5 !== MAP) return false;
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  return endOf(view, TAG.length, 0) === value.length;
}

const [BYTE_STRING, TEXT, LIST, MAP, TAGGED] = [2, 3, 4, 5, 6];

/** More levels than any object of Kubernetes has. */
const DEPTH = 200;

/**
 * The end of the item that begins at `at`; undefined if it is not well-formed. Kubernetes writes no item of
 * indefinite length.
 */
function endOf(view: DataView, at: number, depth: number): number | undefined {
  if (at >= view.byteLength || depth > DEPTH) return undefined;
  const [major, info] = [view.getUint8(at) >> 5, view.getUint8(at) & 31];
  const width = info < 24 ? 0 : info < 28 ? 2 ** (info - 24) : undefined;
  if (width === undefined || at + 1 + width > view.byteLength) return undefined;
  const argument = width === 0 ? info : numberAt(view, at + 1, width);
  const next = at + 1 + width;
  if (major === BYTE_STRING || major === TEXT)
    return next + argument <= view.byteLength ? next + argument : undefined;
  const items = major === LIST ? argument : major === MAP ? argument * 2 : major === TAGGED ? 1 : 0;
  let end: number | undefined = next;
  for (let i = 0; i < items && end !== undefined; i++) end = endOf(view, end, depth + 1);
  return end;
}

function numberAt(view: DataView, at: number, width: number): number {
  if (width === 8) return Number(view.getBigUint64(at));
  return width === 4 ? view.getUint32(at) : width === 2 ? view.getUint16(at) : view.getUint8(at);
}
