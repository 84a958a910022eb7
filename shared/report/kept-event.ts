/** Checks one line of a run's record, which may come from another node. Text is one line, and short. */
import { RECORD_FORMAT } from "../node/record-format.ts";
import { quoteUntrusted } from "../plain.ts";
import type { RunEvent } from "../this-run.ts";

export type KeptEvent = { at: Date } & (
  | { what: "run"; script: string; version: string; args: string[]; host: string }
  | Extract<RunEvent, { what: "node" | "step" | "step end" | "failed" | "act" | "waited" | "object" }>
  | {
      what: "file";
      did: string;
      path: string;
      to: string;
      why: string;
      isNew: boolean;
      mode: string;
      certificates: KeptCertificate[];
    }
  | { what: "flag"; did: string; flag: string; path: string }
  | { what: "proved"; subject: string }
  | { what: "end"; exitCode: number; objects: [kind: string, count: number][] }
);

interface KeptCertificate {
  subject: string;
  fingerprint: string;
  until: string;
}

/** Entries of one list in a line. */
const LONGEST = 100;

/**
 * "03-workers close", or "03-join" (once "03-workers join"): used in our sentences, and in names of files.
 */
const SCRIPT = /^[a-z\d-]{1,30}( [a-z-]{1,20})?$/;
const VERSION = /^[\w.+-]{1,40}$/;
const HOST = /^[\w.-]{1,253}$/;

export function asEvent(line: unknown): KeptEvent | undefined {
  if (!isObject(line)) return undefined;
  const at = new Date(typeof line.at === "string" ? line.at : "");
  const read = Object.hasOwn(KINDS, String(line.what)) ? KINDS[line.what as KeptEvent["what"]] : undefined;
  // NaN is not; near the last possible date, the page's next tick would overflow
  const event = read && at.getUTCFullYear() < 10_000 ? read(line) : undefined;
  return event && ({ at, what: line.what, ...event } as KeptEvent);
}

type Line = Record<string, unknown>;

const KINDS: Record<KeptEvent["what"], (line: Line) => object | undefined> = {
  run: (line) => {
    const args = listOf(line.args)
      .filter((one) => typeof one === "string")
      .map(quoteUntrusted);
    const fits =
      line.format === RECORD_FORMAT && SCRIPT.test(String(line.script)) && VERSION.test(String(line.version));
    return fits
      ? texts(line, "script", "version", { args, host: HOST.test(String(line.host)) ? line.host : "" })
      : undefined;
  },
  node: (line) => texts(line, "name"),
  step: (line) => texts(line, "title"),
  "step end": (line) => (typeof line.ok === "boolean" ? texts(line, "title", { ok: line.ok }) : undefined),
  failed: (line) => texts(line, "message", "hint"),
  act: (line) => texts(line, "line"),
  file: (line) => {
    const certificates = listOf(line.certificates).flatMap(
      (one) => (isObject(one) && texts(one, "subject", "fingerprint", "until")) || [],
    );
    return texts(line, "did", "path", {
      isNew: line.isNew === true,
      to: short(line.to),
      why: short(line.why),
      mode: short(line.mode),
      certificates,
    });
  },
  flag: (line) => texts(line, "did", "flag", "path"),
  proved: (line) => texts(line, "subject"),
  waited: (line) =>
    Number.isFinite(line.seconds) ? texts(line, "for", { seconds: line.seconds }) : undefined,
  object: (line) => texts(line, "verb", "path"),
  end: (line) => {
    const objects = Object.entries(isObject(line.objects) ? line.objects : {}).slice(0, LONGEST);
    const counts = objects.flatMap(([kind, count]) =>
      Number.isSafeInteger(count) ? [[quoteUntrusted(kind), count]] : [],
    );
    return Number.isSafeInteger(line.exitCode) ? { exitCode: line.exitCode, objects: counts } : undefined;
  },
};

/** These fields, if each is a text; and more. */
function texts(line: Line, ...wanted: (string | object)[]): object | undefined {
  const names = wanted.filter((one) => typeof one === "string");
  if (names.some((name) => typeof line[name] !== "string")) return undefined;
  const found = Object.fromEntries(names.map((name) => [name, short(line[name])]));
  return Object.assign(found, ...wanted.filter((one) => typeof one === "object"));
}

function short(value: unknown): string {
  return typeof value === "string" ? quoteUntrusted(value) : "";
}

function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value.slice(0, LONGEST) : [];
}

function isObject(value: unknown): value is Line {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
