/**
 * A repair in a few sentences, for people who slept through it. Uses believed records; a worker's own words
 * are marked as such.
 */
import { SHARED_KEYS } from "../pki/certs.ts";
import { listed } from "../plain.ts";
import { count } from "../progress.ts";
import { eventsOf, filesGivenUp, lostOnNodes, OWN } from "./kept-findings.ts";
import type { KeptRecord } from "./read-runs.ts";
import { clockOf, moments, wentWell } from "./repair-timeline.ts";

interface Told {
  ours: readonly KeptRecord[];
  others: readonly KeptRecord[];
  left: readonly string[];
  /**
   * Changes that 05-verify sees now; it knows of a new key even if no record is left of the run that made it.
   */
  changed: readonly string[];
  goodUntil?: string | undefined;
}

export function inPlainWords({
  ours,
  others,
  left,
  changed,
  goodUntil,
}: Told): [about: string, sentence: string][] {
  const keys = keysOf(ours);
  const lostThere = [...lostOnNodes(others)].flatMap(([node, { missing }]) =>
    missing.length > 0 ? `on ${node} ${count(missing.length)} missing` : [],
  );
  return [
    ["Lost", lost(ours) + (lostThere.length > 0 ? ` As others say: ${listed(lostThere)}.` : "")],
    ["Keys", sharedKeys(keys)],
    ["Tokens and logins", tokens(keys, changed, keysGivenUp(ours))],
    ["Workloads", workloads(ours, others)],
    ["The API", apiAway(ours)],
    [
      "Left",
      left.length > 0
        ? `${count(left.length)} ${left.length === 1 ? "point" : "points"}: "What is left for people", below.`
        : "Nothing that the scripts know of.",
    ],
    ...(goodUntil
      ? [["Next time", `The certificates of this node are ${goodUntil}.`] as [string, string]]
      : []),
  ];
}

function lost(ours: readonly KeptRecord[]): string {
  const files = [...lostOnNodes(ours)].map(([node, { missing, aside }]) => {
    const ended = aside.flatMap(({ why }) => EXPIRED.exec(why)?.[1] ?? []).sort();
    const others = aside.length - ended.length;
    const words = [
      ...(missing.length > 0 ? [`${count(missing.length)} missing`] : []),
      ...(ended.length > 0 ? [`${count(ended.length)} expired (the first on ${ended[0]})`] : []),
      ...(others > 0 ? [`${count(others)} replaced`] : []),
    ];
    return `on ${node} ${listed(words).replace(/, (?=[^,]*$)/, " and ")}`;
  });
  const lostFiles = [...filesGivenUp(ours).keys()];
  const lost =
    files.length > 0
      ? `Files of the control plane: ${files.join(", ")}.`
      : "No file was missing, had expired, or was replaced.";
  return lostFiles.length > 0 ? `${lost} Still lost: ${listed(lostFiles)}.` : lost;
}

/** The text of `judged` in pki/ensure.ts and in node/credentials.ts. */
const EXPIRED = /^expired\b.*?(\d{4}-\d\d-\d\d)/;

interface Keys {
  /** Keyed by the key's file: the run that brought it back. */
  back: Map<string, string>;
  made: string[];
}

/** The origin of each shared key: the first run that wrote it; unpack only carries it. */
function keysOf(ours: readonly KeptRecord[]): Keys {
  const keys: Keys = { back: new Map(), made: [] };
  for (const run of ours)
    for (const { did, path } of eventsOf(run, "file")) {
      const file = did === "wrote" ? keyFile(path) : undefined;
      if (file === undefined || keys.back.has(file) || keys.made.includes(file)) continue;
      if (run.script === "00-salvage")
        keys.back.set(file, [run.script, ...run.args.filter((arg) => !arg.startsWith("-"))].join(" "));
      else if (run.script === "01-etcd") keys.made.push(file);
    }
  return keys;
}

/** The longer match of "etcd/ca.key" and "ca.key". */
function keyFile(path: string): string | undefined {
  const files = SHARED_KEYS.map((key) => key.keyFile).sort((a, b) => b.length - a.length);
  return OWN.test(path) ? undefined : files.find((file) => path.endsWith(`/${file}`));
}

function sharedKeys({ back, made }: Keys): string {
  const came = [...Map.groupBy(back, ([, by]) => by)].map(
    ([by, some]) => `${listed(some.map(([file]) => file))} came back (${by})`,
  );
  const all = [
    ...came,
    ...(made.length > 0 ? [`${listed(made)} ${made.length === 1 ? "is" : "are"} new`] : []),
  ];
  return all.length > 0
    ? `${all.join("; ")}. No run made another shared key.`
    : "No run made a shared key, or had to bring one back.";
}

/** Token keys without which the API server starts. */
function keysGivenUp(ours: readonly KeptRecord[]): string[] {
  const files = [...filesGivenUp(ours)];
  return files.flatMap(([path, { flag }]) => (flag === "--service-account-key-file" ? [path] : []));
}

function tokens({ made }: Keys, changed: readonly string[], givenUp: readonly string[]): string {
  const isNew = (file: string, words: string) =>
    made.includes(file) || changed.some((line) => line.startsWith(words));
  const [ca, sa] = [isNew("ca.key", "CA: new"), isNew("sa.key", "service-account key: new")];
  const isRenewed = changed.some((line) => line.startsWith("CA: renewed"));
  const logins = LOGINS[ca ? "new" : isRenewed ? "renewed" : "before"];
  const pods = sa
    ? "The key of service-account tokens is new: pods needed new tokens."
    : givenUp.length > 0
      ? `Old service-account tokens stay valid, but those of ${listed(givenUp)} are refused.`
      : "Old service-account tokens stay valid.";
  return `${logins} ${pods}`;
}

/** Logins that the cluster's CA signs. */
const LOGINS = {
  new: "The cluster's CA is new: nodes needed new certificates, and people's old kubeconfigs are refused.",
  renewed:
    "The cluster's CA had expired, and was renewed with its own key: hashes stay, workers needed to join again, and kubeconfigs of people work when they have the current ca.crt.",
  before:
    "The cluster's CA has not changed: only nodes whose own certificates had expired or were lost needed to join again, and kubeconfigs of people work until they expire.",
};

const RESTARTS = /^PATCH (deployments|daemonsets|statefulsets|replicasets)$/;

/** Effects of these scripts on pods; their records have nobody else's. */
function workloads(ours: readonly KeptRecord[], others: readonly KeptRecord[]): string {
  const objects = ours.flatMap((run) => eventsOf(run, "end").flatMap((end) => end.objects));
  const sum = (is: (kind: string) => boolean) =>
    objects.reduce((all, [kind, times]) => all + (is(kind) ? times : 0), 0);
  const [restarted, evicted] = [sum((kind) => RESTARTS.test(kind)), sum((kind) => kind === "POST eviction")];
  const joins = [...ours, ...others].filter((run) => run.script === "03-join" && wentWell(run));
  const done =
    restarted + evicted > 0
      ? `Part 4 restarted ${count(restarted)} workloads by their own rolling update, and replaced ${count(evicted)} pods.`
      : "No script restarted a workload, and none replaced a pod.";
  return `${done}${joinedAgain(joins)} What others did to pods meanwhile, and what callers saw, is not in these records.`;
}

/** The sentence about a node's containers at the end of a join. */
const CONTAINERS = /^ {2}(?:all (\d+) containers still run|warning: (\d+) containers have exited since)/m;

function joinedAgain(joins: readonly KeptRecord[]): string {
  if (joins.length === 0) return "";
  const sums = joins
    .map(({ text }) => CONTAINERS.exec(text) ?? [])
    .map(([, ran = "0", ended = "0"]) => [Number(ran), Number(ended)] as const);
  const [ran, ended] = [0, 1].map((which) => sums.reduce((sum, both) => sum + both[which]!, 0)) as [
    number,
    number,
  ];
  const nodes = listed([...new Set(joins.map(({ node }) => node))]);
  return ` Joined again, by their own words: ${nodes}; of their containers ${count(ran)} ran on, and ${count(ended)} ended.`;
}

/** Counts from the first step that stops the rest of the old control plane. */
function apiAway(ours: readonly KeptRecord[]): string {
  const stopped = ours
    .flatMap(({ steps }) => steps.filter(({ title }) => title.startsWith("1.2 ")))
    .map(({ began }) => began);
  const [first] = stopped.toSorted((a, b) => a.getTime() - b.getTime());
  const back = moments(ours).find(({ text }) => text === "API proved")?.time;
  if (!back) return "No run has proved the API yet.";
  const from = first
    ? `Unavailable from ${clockOf(first)} at the latest (part 1 stops what is left; a line that stopped etcd on another node before it is not in these records) `
    : "Proved ";
  return `${from}${first ? "until" : "at"} ${clockOf(back)} UTC by these scripts. Before that, these records do not know whether it answered.`;
}
