/**
 * What comes next, from what a script has seen; and that a run which was told of lost nodes never asks for
 * them again.
 */
import { describe, expect, test } from "bun:test";
import { command, inLines, inOneLine, NOBODY, type Todo } from "../../../shared/again.ts";
import * as next from "../../../shared/facts/course.ts";
import { otherControlPlanes } from "../../../shared/facts/other-control-planes.ts";

const nodeCalled = (name: string, controlPlane = true) => ({
  name,
  uid: name,
  controlPlane,
  names: [name],
  ips: [],
});
const cluster = { nodes: [nodeCalled("cp1"), nodeCalled("cp2"), nodeCalled("cp3"), nodeCalled("w1", false)] };
const node = { name: "cp1" };
const alone = next.routeOf(
  { cluster: { nodes: [nodeCalled("cp1"), nodeCalled("w1", false)] }, node },
  NOBODY,
);
const all = next.routeOf({ cluster, node }, NOBODY);
const lost = next.routeOf({ cluster, node }, { without: [], lost: ["cp3", "w1"] });
const away = next.routeOf({ cluster, node }, { without: ["cp3", "w1"], lost: [] });
const line = (...todos: Todo[]) => inOneLine(todos);
const OLD = { caIsNew: false, saKeyIsNew: false };
const NEW = { caIsNew: true, saKeyIsNew: true };

test("the other control plane nodes are neither this one, nor workers, nor lost ones", () => {
  expect(otherControlPlanes(cluster, { node }).map(({ name }) => name)).toEqual(["cp2", "cp3"]);
  expect(lost.others).toEqual(["cp2"]);
});

test("after the old key of tokens: part 1 where its new key is not here yet, the other control plane nodes, part 2", () => {
  const carry = [{ command: "the scp lines above" }];
  expect(line(...next.todosAfterTokenKey({ saKeyIsHere: true, carry: [] }))).toBe(
    "./bunw scripts/02-control-plane.ts",
  );
  expect(line(...next.todosAfterTokenKey({ saKeyIsHere: false, carry }))).toBe(
    "./bunw scripts/01-etcd.ts --new-cas, then the scp lines above, then ./bunw scripts/02-control-plane.ts",
  );
});

describe("after part 1", () => {
  const peers = ["cp2", "cp3"];
  const after = (seen: Omit<next.EtcdSeen, "makesKeys"> & { makesKeys?: boolean }) =>
    line(...next.todosAfterEtcd({ makesKeys: false, ...seen }));

  test("a single member goes on with part 2, whether it has made keys or not", () => {
    for (const newKeys of [true, false])
      expect(after({ peers: [], silent: [], newKeys, answers: true })).toBe(
        "./bunw scripts/02-control-plane.ts",
      );
  });

  test("too few members: the keys are carried, and part 1 is done there", () => {
    const pack = "./bunw scripts/hand-over.ts pack, then";
    expect(after({ peers, silent: peers, newKeys: true, answers: false })).toBe(`${pack} part 1 on cp2, cp3`);
    expect(after({ peers, silent: peers, newKeys: true, answers: true })).toBe(
      `${pack} unpack it on cp2, cp3, then part 1 on cp2, cp3, then ./bunw scripts/02-control-plane.ts`,
    );
    expect(after({ peers, silent: ["cp3"], newKeys: false, answers: true })).toBe(
      "part 1 on cp3, then ./bunw scripts/02-control-plane.ts",
    );
  });

  test("a peer that runs has the new keys already, unless this run has made them", () => {
    const seen = { peers, silent: ["cp3"], newKeys: true, answers: true };
    expect(after(seen)).toBe("part 1 on cp3, then ./bunw scripts/02-control-plane.ts");
    expect(after({ ...seen, makesKeys: true })).toStartWith(
      "./bunw scripts/hand-over.ts pack, then unpack it on cp2, cp3, then",
    );
  });

  test("where no key is new, every control plane node has them: none are carried", () => {
    expect(after({ peers, silent: peers, newKeys: false, answers: false })).toBe("part 1 on cp2, cp3");
  });

  test("a new service-account key: 00-token-key before part 2, also while etcd waits for other members, and once only", () => {
    const seen = { peers, silent: peers, newKeys: false } as const;
    const tokenKey = "part 1 on cp2, cp3, then ./bunw scripts/00-token-key.ts";
    expect(after({ ...seen, answers: true, oldKey: "in tokens" })).toBe(
      `${tokenKey}, then ./bunw scripts/02-control-plane.ts`,
    );
    expect(after({ ...seen, answers: false, oldKey: "in tokens" })).toEndWith(tokenKey);
    expect(after({ ...seen, silent: [], answers: true, oldKey: "here" })).toBe(
      "./bunw scripts/02-control-plane.ts",
    );
  });
});

const DELETE = "kubectl --kubeconfig /etc/kubernetes/admin.conf delete node --ignore-not-found cp3 w1";

describe("after part 2", () => {
  const after = (route: next.Route, part3: boolean, trust: next.TrustSeen = OLD, reduced: string[] = []) =>
    line(...next.todosAfterControlPlane(route, { ...trust, part3, reduced }));

  test("part 3 comes next with a new CA, and with an old one where a node waits for it; else part 4 or the proof", () => {
    expect(after(alone, true, NEW)).toBe("./bunw scripts/03-workers.ts open");
    expect(after(alone, true)).toBe("./bunw scripts/03-workers.ts open");
    expect(after(alone, false, { caIsNew: false, saKeyIsNew: true })).toBe("./bunw scripts/04-sa-tokens.ts");
    expect(after(alone, false, { ...OLD, caEnded: true })).toBe("./bunw scripts/04-sa-tokens.ts");
    expect(after(alone, false)).toBe("./bunw scripts/05-verify.ts");
  });

  test("where everybody is back, close on the control plane nodes whose controller-manager is still reduced", () => {
    expect(after(all, false, OLD, ["cp2", "cp3"])).toEndWith(
      ", then on cp2, cp3: ./bunw scripts/03-workers.ts close, then ./bunw scripts/05-verify.ts",
    );
    expect(after(alone, false, OLD, ["cp1"])).toBe(
      "./bunw scripts/03-workers.ts close, then ./bunw scripts/05-verify.ts",
    );
  });

  test("the others first, but not those that are lost", () => {
    expect(after(all, false)).toBe(
      "part 2 on cp2, cp3 where it is not done yet, then ./bunw scripts/05-verify.ts",
    );
    expect(after(lost, true)).toBe(
      "part 2 on cp2 where it is not done yet, then ./bunw scripts/03-workers.ts open",
    );
  });
});

describe("in part 3", () => {
  const idle = (route: next.Route, silentControlPlanes: string[], closeOn: string[], trust = OLD) =>
    line(...next.todosAfterIdleOpen(route, { ...trust, silentControlPlanes, closeOn }));

  test("open and approve print close with --lost", () => {
    expect(line(...next.closing())).toBe("on each control plane node: ./bunw scripts/03-workers.ts close");
  });

  test("where no worker joins: part 2 for a silent control plane node, then close, then the part after it", () => {
    expect(idle(lost, ["cp2"], ["cp1"])).toBe("on cp2: ./bunw scripts/02-control-plane.ts");
    expect(idle(lost, [], ["cp1"])).toBe("./bunw scripts/03-workers.ts close");
    expect(idle(lost, [], [])).toBe(`${DELETE}, then ./bunw scripts/05-verify.ts`);
    expect(idle(lost, [], [], NEW)).toBe(`${DELETE}, then ./bunw scripts/04-sa-tokens.ts`);
  });

  test("close --lost cp3 does not name cp3; its Node goes before part 4, which is told of it; the Node of one that is away stays", () => {
    const after = (route: next.Route, trust = NEW) => line(...next.todosAfterClose(route, trust));
    expect(after(lost)).toBe(
      `the same on cp2 where it is not done yet, then ${DELETE}, then ./bunw scripts/04-sa-tokens.ts`,
    );
    expect(after(away)).toBe("the same on cp2 where it is not done yet, then ./bunw scripts/04-sa-tokens.ts");
    expect(after(alone)).toBe("./bunw scripts/04-sa-tokens.ts");
    expect(after(alone, OLD)).toBe("./bunw scripts/05-verify.ts");
  });
});

test("after part 4 the old key is retired on each control plane node, if there is one", () => {
  expect(line(...next.todosAfterTokens(lost, { oldSaKey: false, later: false, skipped: [] }))).toBe(
    "./bunw scripts/05-verify.ts",
  );
  expect(line(...next.todosAfterTokens(lost, { oldSaKey: true, later: false, skipped: [] }))).toBe(
    "on each control plane node: ./bunw scripts/04-sa-tokens.ts retire, then ./bunw scripts/05-verify.ts",
  );
  expect(line(...next.todosAfterRetire(lost))).toBe(
    "the same on cp2 where it is not done yet, then ./bunw scripts/05-verify.ts",
  );
});

test("a list has a line for each command, and its comments one below the other", () => {
  expect(
    inLines([
      { command: "systemctl stop kubelet" },
      { command: command("00-salvage"), note: "looks for keys" },
      { command: command("hand-over unpack FILE"), on: "cp2", note: "there" },
    ]),
  ).toEqual([
    "systemctl stop kubelet",
    "./bunw scripts/00-salvage.ts                      # looks for keys",
    "on cp2: ./bunw scripts/hand-over.ts unpack FILE   # there",
  ]);
});

test("after part 4: what was left for later comes first, then what the operator restarts, and each command remembers it", () => {
  const db = { name: "blog/db", command: "kubectl rollout restart db" };
  const after = (later: boolean, skipped: (typeof db)[], oldSaKey = false) =>
    line(...next.todosAfterTokens(lost, { oldSaKey, later, skipped }));
  expect(after(true, [])).toBe("./bunw scripts/04-sa-tokens.ts");
  expect(after(true, [db], true)).toBe("./bunw scripts/04-sa-tokens.ts --skip blog/db");
  expect(after(false, [db])).toBe("kubectl rollout restart db, then ./bunw scripts/05-verify.ts");
  expect(after(false, [db, db], true)).toBe(
    "the 2 commands of 4.7, then on each control plane node: ./bunw scripts/04-sa-tokens.ts retire, then ./bunw scripts/05-verify.ts",
  );
});
