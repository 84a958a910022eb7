#!/usr/bin/env bun
/**
 * Writes shared/objects/fields.ts from the published Kubernetes API: `./bunw test/generate-fields.ts`
 *
 * Needs Go, which fetches k8s.io/api and k8s.io/apimachinery at VERSION. Field numbers and types are read from generated.proto; the
 * names JSON uses, what is a Go pointer and what is inlined are read from the tags in types.go. For a newer Kubernetes change
 * VERSION, run it and read the diff: field numbers are never reused, so a newer table also reads older data.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { Fail } from "../shared/fail.ts";
import { run } from "../shared/run.ts";

const VERSION = "v0.37.2";
/** What is read from etcd's data: shared/objects/storage.ts has them by apiVersion. */
const ROOTS = [
  ...["Pod", "ConfigMap", "Secret", "Node", "Namespace", "Lease"],
  ...["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"],
];
/** All that is read of these. A pod's spec is whole: a static pod's manifest is made of it. */
const ONLY: Record<string, string[]> = {
  PodStatus: [
    "phase",
    "conditions",
    "message",
    "reason",
    "podIP",
    "podIPs",
    "startTime",
    "containerStatuses",
  ],
  ContainerStatus: ["name", "state"],
  NodeSpec: ["taints"],
  NodeStatus: ["addresses", "nodeInfo"],
  Namespace: ["metadata"],
  ValidatingWebhook: ["clientConfig"],
  MutatingWebhook: ["clientConfig"],
};
const SOURCES = [
  { module: "k8s.io/api", folder: "core/v1" },
  { module: "k8s.io/api", folder: "coordination/v1" },
  { module: "k8s.io/api", folder: "admissionregistration/v1" },
  { module: "k8s.io/apimachinery", folder: "pkg/apis/meta/v1" },
];

/** What Go writes to JSON by its own MarshalJSON; `shared/objects/storage.ts` knows each of these words. */
const SCALARS: Record<string, string> = {
  string: "string",
  bytes: "bytes",
  bool: "bool",
  int32: "int",
  int64: "int",
  Time: "time",
  MicroTime: "microtime",
  Quantity: "quantity",
  IntOrString: "intorstring",
  FieldsV1: "json",
};

interface Field {
  number: number;
  name: string;
  type: string;
  /** `[]`, `{}`, `?` (pointer), `^` (inlined), or nothing. */
  mark: string;
}

async function main() {
  const messages = new Map<string, Field[]>();
  for (const source of SOURCES) {
    const folder = `${download(source.module)}/${source.folder}`;
    const tags = readTags(readFileSync(`${folder}/types.go`, "utf8"));
    for (const [name, fields] of readMessages(readFileSync(`${folder}/generated.proto`, "utf8"), tags)) {
      if (!messages.has(name))
        messages.set(
          name,
          fields.filter((field) => isRead(name, field)),
        );
    }
  }
  const table = reachable(messages).map((name) => `${name}: ${messages.get(name)!.map(show).join(", ")}`);
  writeFileSync(`${import.meta.dirname}/../shared/objects/fields.ts`, render(table));
  console.error(`wrote shared/objects/fields.ts: ${table.length} messages of Kubernetes ${VERSION}`);
}

function download(module: string) {
  const go = Bun.spawnSync(["go", "mod", "download", "-json", `${module}@${VERSION}`], {
    cwd: tmpdir(),
    stdout: "pipe",
    stderr: "inherit",
  });
  if (!go.success)
    throw new Fail(`Cannot download "${module}@${VERSION}"`, {
      hint: "install Go, then run this generator again",
    });
  return (JSON.parse(go.stdout.toString()) as { Dir: string }).Dir;
}

/** Struct name → field number → what the tags of types.go say: an embedded struct has no JSON name, with or without `,inline`. */
function readTags(source: string) {
  const structs = new Map<string, Map<number, { json: string; pointer: boolean; inline: boolean }>>();
  for (const [, name, body] of source.matchAll(/^type (\w+) struct \{\n(.*?)^\}/gms)) {
    const tags = new Map<number, { json: string; pointer: boolean; inline: boolean }>();
    for (const [, type, json, options, number] of body!.matchAll(
      /^\s+(?:\w+\s+)?(\S+)\s+`json:"([^",]*)([^"]*)".*?protobuf:"\w+,(\d+)/gm,
    )) {
      tags.set(Number(number), {
        json: json!,
        pointer: type!.startsWith("*"),
        inline: options!.includes("inline") || json === "",
      });
    }
    structs.set(name!, tags);
  }
  return structs;
}

function isRead(message: string, { name }: Field): boolean {
  return ONLY[message]?.includes(name) ?? true;
}

function readMessages(source: string, structs: ReturnType<typeof readTags>) {
  const messages = new Map<string, Field[]>();
  for (const [, message, body] of source.matchAll(/^message (\w+) \{\n(.*?)^\}/gms)) {
    const fields: Field[] = [];
    for (const [, label, type, number] of body!.matchAll(
      /^ {2}(optional|repeated|map<string,) ?([\w.]+)>? \w+ = (\d+);/gm,
    )) {
      const tag = structs.get(message!)?.get(Number(number));
      const base = type!.split(".").at(-1)!;
      const mark =
        label === "repeated"
          ? "[]"
          : label === "optional"
            ? tag?.pointer
              ? "?"
              : tag?.inline
                ? "^"
                : ""
            : "{}";
      fields.push({ number: Number(number), name: tag?.json || "-", type: SCALARS[base] ?? base, mark });
    }
    messages.set(message!, fields);
  }
  return messages;
}

/** The roots and all they refer to, in the order they are met. */
function reachable(messages: Map<string, Field[]>) {
  const names = [...ROOTS];
  for (const name of names) {
    for (const field of messages.get(name) ?? missing(name)) {
      if (field.name === "-" && field.mark !== "^")
        throw new Error(`types.go has no JSON name for ${name}.${field.number}`);
      if (!Object.values(SCALARS).includes(field.type) && !names.includes(field.type)) names.push(field.type);
    }
  }
  return names;
}

function missing(name: string): never {
  throw new Error(`No message ${name} in the proto files`);
}

function show(field: Field) {
  const type = `${field.type === "string" ? "" : field.type}${field.mark}`;
  return `${field.number} ${field.name}${type && ` ${type}`}`;
}

function render(table: string[]) {
  return `/**
 * Kubernetes' stored objects, ${VERSION.replace("v0", "v1")}. Generated by test/generate-fields.ts: change that, not this.
 *
 * One message a line: "number name type" of each field; without a type it is a string. After the type: [] list, {} map with string keys, ? Go
 * pointer (a zero that is there was meant), ^ inlined into its parent in JSON. Types that begin with a small letter are scalars, see shared/objects/storage.ts.
 * Only what is read of a kind is here, and a pod's spec as a whole.
 */
// biome-ignore format: one message a line
export const FIELDS = \`
${table.join("\n")}
\`;
`;
}

if (import.meta.main) await run(main);
