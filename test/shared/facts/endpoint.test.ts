/** Which names the API server's certificate needs, by whom clients on this node are led. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { lookHere } from "../../../shared/assess/look-here.ts";
import {
  askedEndpoint,
  type EndpointPlace,
  endpointDifference,
  refuseUndecided,
  storedPlaces,
  withEndpoint,
} from "../../../shared/facts/endpoint.ts";
import { failOf } from "../../../shared/fail.ts";
import { ADDRESS, healthyCp, write } from "../../pretend/cluster.ts";
import { pretendData } from "../../pretend/control-plane-node.ts";
import { BALANCER, OLD, said } from "../../pretend/endpoint.ts";
import { testFacts } from "../../pretend/facts.ts";
import { lookAt, put } from "../../pretend/in-process.ts";
import { AT_M2, withM2 } from "../../pretend/lost-cp.ts";

setDefaultTimeout(300_000);

const { root } = await healthyCp();
const admin = readFileSync(`${root}/etc/kubernetes/admin.conf`, "utf8");

async function clients(host: string): Promise<readonly string[] | undefined> {
  const server = `https://${host}:6443`;
  const change = put({ "admin.conf": admin.replace(/server: .*/, `server: ${server}`) });
  return lookAt({ kind: "healthy control plane node", etcd: withM2, change }, async () => {
    const { partialFacts } = await lookHere(undefined, undefined);
    const answers = new Map([[server, "ours" as const]]);
    const seen = {
      ...partialFacts!.cp!.endpoint,
      value: undefined,
      witnesses: [],
      answers,
      undecided: false,
    };
    return withEndpoint(partialFacts!.cp as EndpointPlace, seen).clients;
  });
}

test("a kubeconfig that leads to another control plane node's own address needs no name here: that node answers there", async () => {
  expect(await clients("127.77.0.50")).toContain("127.77.0.50");
  expect(await clients("127.77.0.12")).not.toContain("127.77.0.12");
});

/** Whether admin.conf may lead there, and stays as it is. */
async function isKept(server: string, answer: "nobody" | "another" | "not for this name", name = "") {
  const lines = `server: ${server}${name && `\n    tls-server-name: ${name}`}`;
  const change = put({ "admin.conf": admin.replace(/server: .*/, lines) });
  const servers = await lookAt({ kind: "healthy control plane node", change }, async () => {
    const { partialFacts } = await lookHere(undefined, undefined);
    const answers = new Map([[server, answer]]);
    const seen = {
      ...partialFacts!.cp!.endpoint,
      value: undefined,
      witnesses: [],
      answers,
      undecided: false,
    };
    return withEndpoint(partialFacts!.cp as EndpointPlace, seen).servers;
  });
  return servers!.includes(server);
}

/** `[its tls-server-name, who answers there, it is right]` */
test.each<[string, "nobody" | "another" | "not for this name", boolean]>([
  ["kubernetes", "nobody", true],
  ["kubernetes", "another", false],
  ["evil.example", "nobody", false],
  ["", "nobody", false],
])(
  "a kubeconfig that leads through a tunnel, with the server name %p, where %s answers: %p",
  async (name, answer, expected) => {
    expect(await isKept("https://127.77.0.50:6443", answer, name)).toBe(expected);
  },
);

test("a kubeconfig that leads to this node itself stays as it is while its API server is down", async () => {
  for (const host of ["127.0.0.1", ADDRESS])
    expect(await isKept(`https://${host}:6443`, "nobody")).toBe(true);
});

/** `[where this cluster's API answers, the kubeconfig's server counts all the same, that place]` */
test.each<[string, boolean, (own: string) => string]>([
  ["this node's own address", true, (own) => own],
  ["loopback", true, () => "127.0.0.1"],
  ["another control plane node's own address", true, () => AT_M2],
  ["a balancer", false, () => BALANCER],
])(
  "a kubeconfig and an object lead where a stranger answers; by %s this cluster answers: they are right: %p",
  async (_, expected, hostOf) => {
    const host = "127.77.0.50";
    const change = put({ "admin.conf": admin.replace(/server: .*/, `server: https://${host}:6443`) });
    const look = async () => {
      const { partialFacts } = await lookHere(undefined, undefined);
      const place = partialFacts!.cp as EndpointPlace;
      const living = `${hostOf(place.facts.advertiseAddress)}:6443`;
      const answers = new Map([[`https://${host}:6443`, "another" as const]]);
      const seen = {
        ...{ ...partialFacts!.cp!.endpoint, value: undefined, undecided: false },
        witnesses: [at("kube-proxy", `${host}:6443`), at(KUBEADM, living), at("x", "")],
        answers: new Map([...answers, [`https://${living}`, "ours" as const]]),
      };
      return withEndpoint(place, seen as never).servers!.includes(`https://${host}:6443`);
    };
    expect(await lookAt({ kind: "healthy control plane node", etcd: withM2, change }, look)).toBe(expected);
  },
);

test("the operator's --endpoint counts, whatever else is named; without it what is named decides", async () => {
  const given = "127.77.0.99:6443";
  const change = put({ "admin.conf": admin.replace(/server: .*/, "server: https://127.77.0.50:6443") });
  const values = await lookAt({ kind: "healthy control plane node", change }, async () => {
    const { partialFacts } = await lookHere(undefined, undefined);
    const place = partialFacts!.cp!;
    return [await askedEndpoint(place, given), await askedEndpoint(place)].map(({ value }) => value);
  });
  expect(values).toEqual([given, expect.not.stringContaining(given)]);
});

test.each([
  ["localhost:6443", false],
  ["127.0.0.1:6443", false],
  ["[::1]:6443", false],
  [`${BALANCER}:6443`, true],
])(
  "kube-proxy goes to %s: it names an endpoint: %p, as loopback is each node's own",
  async (kubeProxy, names) => {
    const places = storedPlaces(await pretendData(said({ kubeProxy })), {}, 6443);
    expect(places.find(({ name }) => name === "kube-proxy")?.place).toBe(names ? kubeProxy : undefined);
  },
);

test("where nobody answers anywhere, what most say decides", async () => {
  const place = `${BALANCER}:6443`;
  const etcd = said({ kubeadm: `${OLD}:6443`, clusterInfo: place, kubeProxy: place });
  const seen = await lookAt({ kind: "healthy control plane node", etcd }, async () => {
    const { partialFacts } = await lookHere(undefined, undefined);
    return await askedEndpoint(partialFacts!.cp!);
  });
  expect([...seen.answers.values()].includes("ours")).toBe(false);
  expect(seen).toMatchObject({ value: place, undecided: false });
});

test.each([
  [6443, "https://127.0.0.1:6443", true],
  [443, "https://127.0.0.1", true],
  [443, "https://127.0.0.1:443", true],
  [443, "https://127.0.0.1:6443", false],
  [6443, "https://127.0.0.1", false],
])(
  "an API server at port %p: root's kubeconfig with %s leads there: %p",
  async (bindPort, server, expected) => {
    const change = ({ root }: { root: string }) =>
      write(`${root}/root/.kube/config`, admin.replace(/server: .*/, `server: ${server}`), 0o600);
    const before = await lookAt({ kind: "healthy control plane node", change }, async () => {
      const { partialFacts } = await lookHere(undefined, undefined);
      const place = partialFacts!.cp as EndpointPlace;
      const facts = { ...place.facts, bindPort, certSANs: ["127.0.0.1"] };
      const seen = { ...partialFacts!.cp!.endpoint, value: undefined, witnesses: [], undecided: false };
      return withEndpoint({ ...place, facts }, seen).serverBefore;
    });
    expect(before).toBe(expected ? server : undefined);
  },
);

const at = (name: string, place: string) => ({ name, place });
const KUBEADM = "kubeadm-config";

test("what an object in use names needs a name: the place decided for, others only where somebody is there", async () => {
  const found = await lookAt({ kind: "healthy control plane node" }, async () => {
    const { partialFacts } = await lookHere(undefined, undefined);
    const answers = new Map([
      ["https://old:6443", "ours"],
      ["https://cut:6443", "not for this name"],
    ]);
    const places = ["lb", "old", "cut", "gone"].map((host) => at("kube-proxy", `${host}:6443`));
    const witnesses = [...places, at(KUBEADM, "cut:6443")];
    const seen = { ...partialFacts!.cp!.endpoint, value: "lb:6443", witnesses, answers, undecided: false };
    return withEndpoint(partialFacts!.cp as EndpointPlace, seen as never).clients ?? [];
  });
  const names = ["lb", "old", "cut", "gone"];
  expect(names.filter((name) => found.includes(name))).toEqual(["lb", "old", "cut"]);
});

test.each<[string, string | undefined, { name: string; place: string }[], string | undefined]>([
  ["all say the same", "lb:6443", [at(KUBEADM, "lb:6443"), at("admin.conf", "lb:6443")], undefined],
  ["the port is the usual one", "lb", [at(KUBEADM, "lb:6443")], undefined],
  [
    "one that kubeadm reads",
    "lb:6443",
    [at(KUBEADM, "old:6443"), at("admin.conf", "lb:6443")],
    "kubectl -n kube-system edit configmap kubeadm-config",
  ],
  [
    "two objects, once each",
    "lb:6443",
    [at("cluster-info", "old:6443"), at("kube-proxy", "x:6443"), at("kube-proxy", "old:6443")],
    "kubectl -n kube-public edit configmap cluster-info; kubectl -n kube-system edit configmap kube-proxy",
  ],
  ["a kubeconfig, which nothing edits", "lb:6443", [at("admin.conf", "old:6443")], ""],
  ["nothing is known to be right", undefined, [at("admin.conf", "old:6443")], ""],
])(
  "before the next upgrade, where the witnesses of the endpoint disagree: %s",
  (_, value, witnesses, before) => {
    const seen = { value, witnesses, undecided: false, answers: new Map() };
    const difference = endpointDifference(seen as never, testFacts());
    expect(difference && { ...difference, differs: "" }).toEqual(
      (before === undefined ? undefined : { differs: "", ...(before && { before }) }) as never,
    );
  },
);

test("where nothing decides, what each says is told, and whether somebody answers there", async () => {
  const answers = new Map([["https://a:6443", "ours"]]);
  const witnesses = [at(KUBEADM, "a:6443"), at("admin.conf", "b:6443"), at("x", "b:6443"), at("y", "")];
  const seen = { value: undefined, witnesses, answers };
  const refused = (undecided: boolean) =>
    failOf(() => refuseUndecided({ endpoint: { ...seen, undecided } as never }));
  expect((await refused(true))!.message).toEndWith(
    ": kubeadm-config: a:6443 (answers)   admin.conf, x: b:6443   y: none",
  );
  expect(await refused(false)).toBeUndefined();
});
