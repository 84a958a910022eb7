/**
 * The records of a repair as sentences: what was broken, what changed, what stopped, and what is left for
 * people.
 */
import { basename } from "node:path";
import type { Check } from "../checks/check.ts";
import { listed, plainLine } from "../plain.ts";
import type { KeptEvent } from "./kept-event.ts";
import type { KeptRecord } from "./read-runs.ts";
import { clockOf, took, wentWell } from "./repair-timeline.ts";

export type ShownCheck = Pick<Check, "area" | "what" | "result" | "state" | "severity" | "detail" | "mend"> &
  Partial<Pick<Check, "id">>;

type Of<W extends KeptEvent["what"]> = Extract<KeptEvent, { what: W }>;

function eventsOf<W extends KeptEvent["what"]>(run: KeptRecord, what: W): Of<W>[] {
  return run.events.filter((event): event is Of<W> => event.what === what);
}

/** Leaves out nodes without findings. */
function byNode<T>(runs: readonly KeptRecord[], of: (its: KeptRecord[]) => T | undefined): Map<string, T> {
  return new Map(
    [...Map.groupBy(runs, ({ node }) => node)].flatMap(([node, its]) => {
      const found = of(its);
      return found === undefined ? [] : [[node, found] as const];
    }),
  );
}

/** The scripts' own files, and their folders. */
const OWN = /^\/(root|run|dev\/shm|tmp)\/|\/\.[^/]+$|\/(bootstrap-kubelet\.conf|sa-old\.pub)$/;

interface LostFiles {
  /** Paths that did not exist when a script wrote them, and that no script had moved away before. */
  missing: string[];
  /** Files that were moved aside: the old path, the new one, and the fault found then. */
  aside: { path: string; to: string; why: string }[];
}

export function lostOnNodes(runs: readonly KeptRecord[]): Map<string, LostFiles> {
  return byNode(runs, (its) => {
    const files = its.flatMap((run) => eventsOf(run, "file")).filter(({ path }) => !OWN.test(path));
    const moved = new Map(
      files
        .filter(({ did, to }) => did === "moved" && to.startsWith("/root/"))
        .map((event) => [event.path, event]),
    );
    const wasThere = (path: string, index: number) =>
      files.slice(0, index).some((earlier) => earlier.path === path && earlier.did !== "wrote");
    const made = files
      .filter(
        (file, i) => file.did === "wrote" && file.isNew && !moved.has(file.path) && !wasThere(file.path, i),
      )
      .map(({ path }) => path);
    const isNoDated = (path: string) => !/kubelet-(client|server)-\d/.test(basename(path));
    const missing = [...new Set(made)].filter(isNoDated);
    const aside = [...moved.values()].filter(({ path }) => isNoDated(path));
    return missing.length + aside.length > 0 ? { missing, aside } : undefined;
  });
}

/** Files that were lost for good: the API server starts without the flags that name them. Keyed by path. */
function filesGivenUp(runs: readonly KeptRecord[]): Map<string, { flag: string; nodes: string[] }> {
  const files = new Map<string, { flag: string; nodes: string[] }>();
  for (const run of runs)
    for (const { did, flag, path } of eventsOf(run, "flag")) {
      const others = (files.get(path)?.nodes ?? []).filter((name) => name !== run.node);
      const nodes = did === "back" ? others : [...others, run.node];
      if (nodes.length > 0) files.set(path, { flag, nodes });
      else files.delete(path);
    }
  return files;
}

export function brokenThings(runs: readonly KeptRecord[]): Map<string, string[]> {
  const words = ({ missing, aside }: LostFiles) => [
    ...(missing.length > 0 ? [`${missing.length} files were missing: ${missing.join(", ")}`] : []),
    ...aside.map(({ path, to, why }) => `${path}: ${why || "replaced"}; the old one is saved: ${to}`),
  ];
  return new Map([...lostOnNodes(runs)].map(([node, files]) => [node, words(files)]));
}

export function changedFiles(runs: readonly KeptRecord[]): Map<string, string[]> {
  const line = ({ did, path, to, isNew, mode }: Of<"file">) => {
    if (did === "wrote") return `${isNew ? "wrote" : "replaced"} ${path}${mode ? `, mode ${mode}` : ""}`;
    return `${did} ${path}${to ? ` to ${to}` : ""}`;
  };
  return byNode(runs, (its) => {
    const events = its.flatMap((run) => eventsOf(run, "file"));
    return events.length > 0 ? events.map((event) => `${clockOf(event.at)} ${line(event)}`) : undefined;
  });
}

/** nodes, file, subject, until, public key: the same one on several nodes is one row */
export function issuedCertificates(runs: readonly KeptRecord[]): string[][] {
  const written = runs.flatMap((run) =>
    eventsOf(run, "file")
      .filter(({ path }) => !OWN.test(path))
      .map(({ path, certificates }) => ({ node: run.node, path, certificates })),
  );
  const rows = written.flatMap(({ node, path, certificates }) =>
    certificates.map(({ subject, until, fingerprint }) => ({
      node,
      row: [path, subject, until.slice(0, 10), `${fingerprint.slice(0, 19)}…`],
    })),
  );
  const same = Map.groupBy(rows, ({ row }) => row.join("\n"));
  return [...same.values()].map((its) => [listed([...new Set(its.map(({ node }) => node))]), ...its[0]!.row]);
}

/** node, run, what, how many */
export function changedObjects(runs: readonly KeptRecord[]): string[][] {
  return runs.flatMap((run) => {
    const changes = eventsOf(run, "end").flatMap(({ objects }) => objects);
    const named = eventsOf(run, "object").map(({ verb, path }): [string, number] => [`${verb} ${path}`, 1]);
    return (changes.length > 0 ? changes : named).map(([kind, times]) => [
      run.node,
      run.script,
      kind,
      String(times),
    ]);
  });
}

/** columns: when, where, why, what to do */
export function stoppedRuns(runs: readonly KeptRecord[]): string[][] {
  return runs.flatMap((run) => {
    const failed = eventsOf(run, "failed").map(({ at, message, hint }) => [
      clockOf(at),
      `${run.node}, ${run.script}`,
      message,
      hint,
    ]);
    if (failed.length > 0 || run.exitCode !== undefined || wentWell(run)) return failed;
    const step = run.steps.findLast(({ ended }) => !ended)?.title ?? "its end";
    return [
      [
        clockOf(run.ended),
        `${run.node}, ${run.script}`,
        `cut off after ${took(run)}, in ${step}`,
        "the next run of it continued there",
      ],
    ];
  });
}

/** The heading in part 4's output for tasks that are left to people, and its lines. */
const LEFT = /^== \d\.\d+ Print what is left/;

/** The tasks that 05-verify names now, else those that the last run of part 4 printed; and checks that are bad now. */
export function leftForPeople(
  runs: readonly KeptRecord[],
  { checks, end }: { checks: readonly ShownCheck[]; end: { left: readonly string[] } | undefined },
): string[] {
  const last = runs.findLast(
    ({ script, text }) =>
      !end && script.startsWith("04-") && text.split("\n").some((line) => LEFT.test(line)),
  );
  const lines = last?.text.split("\n") ?? [];
  const from = lines.findLastIndex((line) => LEFT.test(line)) + 1;
  const to = lines.findIndex((line, index) => index >= from && line.trim() === "");
  const tasks = last
    ? lines.slice(from, to < 0 ? undefined : to).map((line) => plainLine(line.replace(/^ *-? */, "")))
    : [];
  const now = checks
    .filter(({ result }) => result !== "ok")
    .map(({ area, what, state, detail, mend }) => {
      const why = [state, detail].filter(Boolean).join(", ");
      return `${area}, ${what}: ${why}${mend ? `. What mends it: ${mend}` : ""}`;
    });
  const lost = [...filesGivenUp(runs)].map(
    ([path, { flag, nodes }]) =>
      `${path} is lost on ${listed(nodes)}, and the API server starts without ${flag}. If somebody finds the file, put it back there, and run part 2, which puts the flag back`,
  );
  return [...new Set([...tasks.filter(Boolean), ...lost, ...(end?.left ?? []), ...now])];
}
