/**
 * How values are encoded in stored objects. Protobuf's and Kubernetes' scalars as the JSON API shows them.
 * Source: apimachinery pkg/apis/meta/v1, pkg/util/intstr, pkg/api/resource.
 *
 * And CBOR, in which the API server stores custom resources where the gate CBORServingAndStorage is on
 * (apimachinery pkg/runtime/serializer/cbor): the tag "self-described CBOR" (RFC 8949, 3.4.6), then a map. No
 * custom resource is needed here, so none is decoded; that a value is one can be said.
 */
import { BYTES, Damaged, Reader, VARINT } from "../etcd-data/protobuf.ts";

/**
 * Decodes scalars as Go's MarshalJSON shows them. An int beyond 2^53 becomes its decimal text: JavaScript's
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
  intorstring: (reader) => intOrString(reader.bytes()),
  json: (reader) => JSON.parse(String(scalarFields(reader.bytes())[1] ?? "null")),
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

/** IntOrString { 1 type (0 int, 1 string), 2 intVal, 3 strVal }. */
function intOrString(message: Uint8Array): number | string {
  const { 1: type = 0, 2: int = 0, 3: text = "" } = scalarFields(message);
  return type === 1 ? text : int;
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

/**
 * CBOR, in which the API server stores custom resources where the gate CBORServingAndStorage is on
 * (apimachinery pkg/runtime/serializer/cbor): the tag "self-described CBOR" (RFC 8949, 3.4.6), then a map. No
 * custom resource is needed here, so none is decoded; that a value is one can be said.
 */

const TAG = Buffer.from([0xd9, 0xd9, 0xf7]);

/** Checks its first bytes. */
export function isCbor(value: Uint8Array): boolean {
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
