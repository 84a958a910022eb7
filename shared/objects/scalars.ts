/** Protobuf's and Kubernetes' scalar values as the JSON API shows them. Source: apimachinery pkg/apis/meta/v1, pkg/util/intstr, pkg/api/resource. */
import { BYTES, Damaged, Reader, VARINT } from "../etcd-data/protobuf.ts";

/** What Go's MarshalJSON makes of the scalars. An int beyond 2^53 becomes its decimal text: JavaScript's numbers cannot hold it. */
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

/** Field number → number or text, of a message that holds only scalars. */
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
