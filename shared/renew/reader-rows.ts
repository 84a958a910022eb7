/** Rows that say who has to restart, or to be changed, before the older certificate of a CA expires. */
import { type CheckRow, check } from "../checks/check.ts";
import { day } from "../pki/certificate.ts";
import { listed } from "../plain.ts";
import type { CaReader } from "./ca-reader.ts";

/**
 * One for each file that still has the older certificate, and for each process that holds it; one if there is
 * none. A file with an expired certificate has a check of its own.
 */
export function readerRows(readers: readonly CaReader[], now = new Date()): CheckRow[] {
  const files = [...Map.groupBy(readers.filter(isOldFile(now)), ({ path }) => path).values()];
  const isHeld = ({ started, holds, until }: CaReader) =>
    started !== undefined && holds !== "today's" && (holds !== undefined || until !== undefined);
  const held = readers.filter((reader) => isHeld(reader) && !isOldFile(now)(reader));
  const rows = [
    ...files.map((all) => fileRow(all, now)),
    ...[...Map.groupBy(held, ({ name }) => name).values()].map((all) =>
      processRow(all.toSorted(byEnd)[0]!, now),
    ),
    ...readers
      .filter(({ otherUser }) => otherUser)
      .map(({ name, path, started }) => {
        const warning = `started at ${second(started!)}, before ${path} was written: it may hold the old client certificate, which expires earlier`;
        return check("user-held", () => ({ warning }), name);
      }),
  ];
  const names = [...new Set(readers.filter(({ started }) => started).map(({ name }) => name))];
  return rows.length > 0 || names.length === 0
    ? rows
    : [check("ca-held", () => "nothing says that it is an older one", names.join(", "))];
}

/** The same for metrics and lists, with the expiry date. */
export interface OldCaHolder {
  kind: "process" | "file" | "pod";
  name: string;
  until: Date;
}

export function oldCaHolders(readers: readonly CaReader[]): OldCaHolder[] {
  const processes = readers.flatMap(({ name, holds, until }) =>
    until && holds !== "today's" ? [{ kind: "process", name, until } as const] : [],
  );
  const files = readers.flatMap(({ path, fileUntil: until }) =>
    until ? [{ kind: "file", name: path, until } as const] : [],
  );
  const all = [...processes, ...files];
  return [...new Map(all.map((one) => [`${one.kind} ${one.name}`, one])).values()];
}

const isOldFile =
  (now: Date) =>
  ({ fileUntil }: CaReader) =>
    fileUntil !== undefined && now < fileUntil;

/** A sure holder comes before a possible one. */
const byEnd = (a: CaReader, b: CaReader) =>
  Number(!a.holds) - Number(!b.holds) || (a.until?.getTime() ?? 0) - (b.until?.getTime() ?? 0);

function fileRow(all: readonly CaReader[], now: Date): CheckRow {
  const { path, fileUntil } = all[0]!;
  const readBy = [...new Set(all.filter(({ started }) => started).map(({ name }) => name))];
  const readers = readBy.length > 0 ? `, and ${listed(readBy)} reads it when it starts` : "";
  const warning = `still has the CA's certificate that expires on ${timeLeft(fileUntil!, now)}; a renewed one of the same key is here${readers}`;
  return check("ca-file", () => ({ warning }), path);
}

function processRow({ name, path, started, changed, holds, until }: CaReader, now: Date): CheckRow {
  const start = `started at ${second(started!)}${changed ? `, before ${path} was ${holds ? "renewed" : "written"} at ${second(changed)}` : ""}`;
  const holding = holds ? "it holds" : "it may hold";
  const ended = until && until <= now;
  const certificate = until
    ? `the one that ${ended ? `has expired on ${day(until)}` : `expires on ${timeLeft(until, now)}`}`
    : "an older one";
  const words = `${start}: ${holding} ${certificate}`;
  const look = () => (holds && ended ? { state: "old CA", failed: words } : { warning: words });
  return check("ca-held", look, name);
}

function timeLeft(until: Date, now: Date): string {
  return `${day(until)}, ${Math.floor((until.getTime() - now.getTime()) / 86_400_000)} days from now`;
}

function second(date: Date): string {
  return `${date.toISOString().slice(0, 19)}Z`;
}
