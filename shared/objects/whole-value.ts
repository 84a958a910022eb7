/**
 * Whether a value in etcd is whole: each format of the API server is taken apart to its end, and the name inside is
 * that of the key. bbolt's pages have no checksums, so this is what a value shows of itself.
 *
 * What others may write is no fault. Another user of the same etcd writes any format, masterleases and ranges have no
 * name inside, and an aggregated API server may choose its keys. So most findings are of a group, the values of one
 * writer, and count where most of that group are well (`Groups`). Nobody can make the API server store a value that
 * counts as a fault. Sources: apimachinery pkg/runtime/generated.proto; apiserver
 * pkg/registry/generic/registry/store.go (NamespaceKeyFunc), pkg/storage/value/encrypt.
 */
import { BYTES, Damaged, fieldsOf, Reader, unlessDamaged } from "../etcd-data/protobuf.ts";
import { attempt, Fail } from "../fail.ts";
import { isMapping } from "../yaml.ts";
import { decodeMetadata, decodeObject, isCborMap } from "./storage.ts";

/** `group`: unset where a fault counts by itself. `fault`: in words for the operator; unset where the value is well. */
export interface ValueFinding {
  group?: string;
  fault?: string | undefined;
  /** The fault is in the key as well as in the value. */
  isName?: boolean;
}

/** `key`: its bytes as latin1 text. */
export function lookAtValue(key: string, value: Uint8Array): ValueFinding[] {
  const head = latin1(value.subarray(0, 8));
  const base = { group: `the format in ${folderOf(key)}` };
  if (head.startsWith("k8s\0")) return [base, ...inProtobuf(key, value)];
  if (head === "k8s:enc:") return [base, { fault: sealFault(value) }];
  if (head.startsWith("\xd9\xd9\xf7")) return [base, { fault: isCborMap(value) ? undefined : CUT }];
  if (head.startsWith("{")) return [base, ...inJson(key, value)];
  return [{ ...base, fault: "it is of none of Kubernetes' formats" }];
}

const CUT = "it does not end where its format says";

/** More of them in a group are not kept: it is another format, or much is damaged. */
const MOST_FAULTS = 1000;

/** Counts in each group what is well and what is not. */
export class Groups {
  private readonly counts = new Map<string | undefined, { well: number; faulty: number }>();

  /** Returns the faults among them that may count; whether one does shows only when all values are noted. */
  note(findings: readonly ValueFinding[]): ValueFinding[] {
    return findings.filter(({ group, fault }) => {
      const count = this.counts.get(group) ?? { well: 0, faulty: 0 };
      this.counts.set(group, count);
      count[fault === undefined ? "well" : "faulty"]++;
      return fault !== undefined && count.faulty <= MOST_FAULTS;
    });
  }

  /** Whether most values of its group are well: else such values are whole, and of another kind. */
  isDamage({ group, fault }: ValueFinding): boolean {
    const count = group === undefined ? undefined : this.counts.get(group);
    return fault !== undefined && (!count || count.well > count.faulty);
  }

  /** How many faults count that were not kept. */
  get others(): number {
    return [...this.counts]
      .filter(([group, { well, faulty }]) => group === undefined || well > faulty)
      .reduce((sum, [, { faulty }]) => sum + Math.max(0, faulty - MOST_FAULTS), 0);
  }
}

/** "k8s\0", then runtime.Unknown { 1 typeMeta { 1 apiVersion, 2 kind }, 2 raw, 3 contentEncoding, 4 contentType }. */
function inProtobuf(key: string, value: Uint8Array): ValueFinding[] {
  const outer = unlessDamaged(() => {
    const message = value.subarray(4);
    checkFields(message, (number, wire) => number <= 4 && wire === BYTES);
    const fields = fieldsOf(message);
    const typeMeta = fieldsOf(fields.bytes(1));
    checkFields(fields.bytes(2), () => true);
    return { apiVersion: latin1(typeMeta.bytes(1)), kind: latin1(typeMeta.bytes(2)), raw: fields.bytes(2) };
  });
  // each kind has metadata, and Go writes them also where they are empty
  if (!outer?.kind || outer.raw.length === 0) return [{ group: "protobuf", fault: CUT }];
  const { apiVersion, kind, raw } = outer;
  const what = `${apiVersion} ${kind}`;
  const metadata = attempt(() => decodeMetadata(raw));
  const decoded = attempt(() => decodeObject(value));
  return [
    { group: "protobuf" },
    { group: what, fault: decoded instanceof Fail ? `its ${what} is not whole` : undefined },
    metadata instanceof Fail
      ? { group: namesOf(apiVersion, kind), fault: `the metadata of its ${what} is not whole` }
      : nameInside(key, { apiVersion, kind, metadata }),
  ];
}

/** Errors: Damaged where a field does not end in its message, or is none that belongs there. */
function checkFields(message: Uint8Array, belongs: (number: number, wire: number) => boolean) {
  const reader = new Reader(message);
  while (!reader.done) {
    const tag = reader.tag();
    if (!belongs(tag >>> 3, tag & 7)) throw new Damaged(`protobuf: field ${tag >>> 3} does not belong there`);
    reader.skip(tag);
  }
}

function inJson(key: string, value: Uint8Array): ValueFinding[] {
  const group = `JSON in ${folderOf(key, 2)}`;
  let object: unknown;
  try {
    object = JSON.parse(Buffer.from(value).toString("utf8"));
  } catch (err) {
    if (!(err instanceof SyntaxError)) throw err;
    return [{ group, fault: "it is no whole JSON" }];
  }
  const { apiVersion, kind, metadata } = isMapping(object) ? object : {};
  const isObject = typeof apiVersion === "string" && typeof kind === "string" && isMapping(metadata);
  return [{ group }, ...(isObject ? [nameInside(key, { apiVersion, kind, metadata })] : [])];
}

interface ObjectHead {
  apiVersion: string;
  kind: string;
  metadata: { name?: unknown; namespace?: unknown };
}

/** An object without a name inside may be at any key. */
function nameInside(key: string, { apiVersion, kind, metadata }: ObjectHead): ValueFinding {
  const parts = [metadata.namespace, metadata.name].filter((part) => typeof part === "string" && part !== "");
  const end = latin1(Buffer.from(parts.map((part) => `/${part}`).join("")));
  const group = namesOf(apiVersion, kind);
  const isThere = !metadata.name || key.endsWith(end);
  return { group, fault: isThere ? undefined : `the object inside is ${end.slice(1)}`, isName: true };
}

/** Kubernetes' own API has one rule for all kinds. */
function namesOf(apiVersion: string, kind: string): string {
  const group = apiVersion.includes("/") ? apiVersion.slice(0, apiVersion.indexOf("/")) : "";
  const isOwn = !group.includes(".") || group.endsWith(".k8s.io");
  return `names of ${isOwn ? "Kubernetes" : `${group} ${kind}`}`;
}

const SEAL = /^k8s:enc:[^:]+:v\d+:[^:]+:/;
/** Bytes: no cipher makes so many zeros. */
const ZERO_RUN = Buffer.alloc(64);

function sealFault(value: Uint8Array): string | undefined {
  if (!SEAL.test(latin1(value.subarray(0, 512)))) return "the head of its encryption is not whole";
  return Buffer.from(value.buffer, value.byteOffset, value.length).includes(ZERO_RUN)
    ? "zeros are in what is encrypted"
    : undefined;
}

/** "/registry/pods" of "/registry/pods/default/web"; with two parts "/registry". */
function folderOf(key: string, parts = 3): string {
  return key.split("/", parts).join("/");
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
}
