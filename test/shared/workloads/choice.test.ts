/** Whose pods restart now, whose later, and whose the operator restarts himself. */
import { expect, test } from "bun:test";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import { failOf } from "../../../shared/fail.ts";
import type { PodOwner } from "../../../shared/workloads/pod-owners.ts";
import {
  type Choice,
  choose,
  type Group,
  podsStillWaiting,
  refuseBareNames,
  rememberSkipped,
  reportedOwners,
  resumeCommands,
} from "../../../shared/workloads/stale-pods.ts";
import { NO_TLS, pretendApi } from "../../pretend/api.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const owner = (namespace: string, name: string, more: Partial<PodOwner> = {}) =>
  ({
    ...{ restart: "rollout", controller: "Deployment", namespace, name, since: new Date(), pods: [] },
    ...more,
  }) as PodOwner;
const PROXY = owner("kube-system", "proxy", { system: true });
const DNS = owner("kube-system", "dns", { system: true });
const [CART, WEB, DB] = [owner("shop", "cart"), owner("shop", "web"), owner("data", "db")];
const BARE = owner("shop", "bare", { restart: "report" });

const GROUPS = [
  { name: "kube-proxy", owners: [PROXY] },
  { name: "all others", owners: [DNS, CART, WEB, DB, BARE] },
] as Group[];
const ALL: Choice = { onlySystem: false, namespaces: [], skip: [] };
const names = (owners: readonly PodOwner[]) => owners.map(({ name }) => name);
const LONG_AGO = new Date("2026-01-01T00:00:00Z");

interface End {
  now: string[];
  later?: string[];
  skipped?: string[];
  again?: string[];
}

test.each<[string, Partial<Choice>, PodOwner[], Date, End | string]>([
  ["all", {}, [], LONG_AGO, { now: ["proxy", "dns", "cart", "web", "db", "bare"] }],
  [
    "the system alone",
    { onlySystem: true },
    [],
    LONG_AGO,
    { now: ["proxy", "dns", "bare"], later: ["cart", "web", "db"] },
  ],
  [
    "the system and a namespace",
    { onlySystem: true, namespaces: ["data"] },
    [],
    LONG_AGO,
    { now: ["proxy", "dns", "db", "bare"], later: ["cart", "web"] },
  ],
  [
    "one is skipped",
    { skip: ["shop/web"] },
    [],
    LONG_AGO,
    { now: ["proxy", "dns", "cart", "db", "bare"], skipped: ["web"] },
  ],
  [
    "one was skipped before: it restarts now",
    {},
    [WEB],
    LONG_AGO,
    { now: ["proxy", "dns", "cart", "web", "db", "bare"], again: ["web"] },
  ],
  [
    "one was skipped before, and is not asked for now",
    { onlySystem: true },
    [WEB],
    LONG_AGO,
    { now: ["proxy", "dns", "bare"], later: ["cart", "db"], skipped: ["web"] },
  ],
  [
    "that was in an earlier repair",
    { onlySystem: true },
    [WEB],
    new Date(Date.now() + 3_600_000),
    { now: ["proxy", "dns", "bare"], later: ["cart", "web", "db"] },
  ],
  [
    "refused: nothing of that name",
    { skip: ["shop/webb"] },
    [],
    LONG_AGO,
    "--skip shop/webb: no workload of this name has to restart",
  ],
  ["refused: no such namespace", { namespaces: ["shopp"] }, [], LONG_AGO, 'There is no namespace "shopp"'],
  [
    "refused: the network comes first",
    { namespaces: ["shop"] },
    [],
    LONG_AGO,
    "kube-system/proxy (Deployment) has to restart first: until then, new pods may get no traffic from Services",
  ],
])("who restarts: %s", async (_, choice, skippedBefore, since, expected) => {
  using _box = sandbox();
  rememberSkipped(skippedBefore, "m1");
  using server = pretendApi({ objects: { "/api/v1/namespaces/shop": {}, "/api/v1/namespaces/data": {} } });
  const api = new KubeApi({ server: server.url, ca: NO_TLS });
  let end: End | undefined;
  const refused = await failOf(async () => {
    const { groups, ...rest } = await choose(api, GROUPS, { choice: { ...ALL, ...choice }, since });
    end = {
      now: names(groups.flatMap(({ owners }) => owners)),
      ...{ later: names(rest.later), skipped: names(rest.skipped), again: names(rest.again) },
    };
  });
  expect(refused?.message ?? end).toEqual(
    typeof expected === "string" ? expected : { later: [], skipped: [], again: [], ...expected },
  );
});

test.each<[Group["name"], boolean]>([
  ["kube-proxy", true],
  ["pods that network plugins ask", true],
  ["network plugins", true],
  ["other pods of network plugins", false],
  ["webhooks", false],
])("a namespace alone is refused while %s would wait, as new pods need it: %p", async (name, isRefused) => {
  using server = pretendApi({ objects: { "/api/v1/namespaces/shop": {} } });
  const groups = [
    { name, owners: [owner("calico-system", "typha")] },
    { name: "all others", owners: [WEB] },
  ] as Group[];
  const choice = { ...ALL, namespaces: ["shop"] };
  const refused = await failOf(() =>
    choose(new KubeApi({ server: server.url, ca: NO_TLS }), groups, { choice, since: LONG_AGO }),
  );
  expect(refused?.message.startsWith("calico-system/typha (Deployment) has to restart first") ?? false).toBe(
    isRefused,
  );
});

test("the mark of what was skipped goes when nothing is skipped any more; until then part 5 counts it apart", () => {
  using _box = sandbox();
  const shown = () => {
    const { later, skipped } = podsStillWaiting(GROUPS, LONG_AGO);
    return [names(later), names(skipped)];
  };
  const everything = ["proxy", "dns", "cart", "web", "db"];
  expect(shown()).toEqual([everything, []]);
  rememberSkipped([WEB], "m1");
  expect(shown()).toEqual([everything.filter((name) => name !== "web"), ["web"]]);
  rememberSkipped([], "m1");
  expect(shown()).toEqual([everything, []]);
  expect(names(reportedOwners(GROUPS))).toEqual(["bare"]);
});

test.each<[string, PodOwner[], PodOwner[], string]>([
  ["one namespace", [CART, WEB], [], "./bunw scripts/04-sa-tokens.ts restarts them"],
  [
    "two namespaces",
    [CART, DB],
    [WEB],
    "./bunw scripts/04-sa-tokens.ts --skip shop/web restarts them, one namespace at a time: --namespace NAME (shop, data)",
  ],
  [
    "the system",
    [DNS, CART, DB],
    [],
    "./bunw scripts/04-sa-tokens.ts restarts them, or kube-system first: --only-system",
  ],
])("how to go on with %s", (_, later, skipped, line) => {
  expect(resumeCommands({ later, skipped })).toBe(line);
});

test.each([
  [["shop/web"], true],
  [["web"], false],
  [["shop/"], false],
  [["/web"], false],
  [["a/b/c"], false],
])("--skip %p is a name: %p", async (skip, isName) => {
  expect((await failOf(() => refuseBareNames(skip))) === undefined).toBe(isName);
});
