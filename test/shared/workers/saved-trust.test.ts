/** What a worker trusted before a join comes back, and a join that was cut off goes on with what it saved. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { attemptLater, Fail } from "../../../shared/fail.ts";
import { readNode } from "../../../shared/node/node.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueLeaf } from "../../../shared/pki/issue.ts";
import {
  confBefore,
  endJoin,
  rollBack,
  saveTrust,
  serverBefore,
  wasCutOff,
  wayToApi,
} from "../../../shared/workers/saved-trust.ts";
import { ADDRESS, FACTS, healthyCp, otherCa, write } from "../../pretend/cluster.ts";
import { lookAt, type PretendNode } from "../../pretend/in-process.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

const CONF = "/etc/kubernetes/kubelet.conf";
const CA = "/etc/kubernetes/pki/ca.crt";
const BOOTSTRAP = "/etc/kubernetes/bootstrap-kubelet.conf";
const WORKER = { kind: "worker" } as const;

/** As a join does: a new CA, no kubelet.conf, and a bootstrap kubeconfig. */
function begin(root: string) {
  writeFileSync(root + CA, "a new CA");
  rmSync(root + CONF);
  write(root + BOOTSTRAP, "a token");
}

test.each([
  ["all of it comes back, and the kubelet starts", false],
  ["nothing comes back where the kubelet has its certificate", true],
] as const)("rollBack(): %s", async (_, hasCertificate) => {
  const isBack = !hasCertificate;
  await lookAt(WORKER, async ({ root, read, calls }) => {
    const before = [read(CONF), read(CA)];
    const saved = await saveTrust(await readNode());
    begin(root);
    expect(await rollBack(saved, () => hasCertificate)).toBe(isBack);
    const now = [CONF, CA].map((path) => (existsSync(root + path) ? read(path) : "gone"));
    expect(now).toEqual(isBack ? before : ["gone", "a new CA"]);
    expect([existsSync(root + BOOTSTRAP), wasCutOff(await readNode())]).toEqual([!isBack, !isBack]);
    expect(calls().filter((call) => /systemctl (stop|start)/.test(call))).toEqual([
      "systemctl stop kubelet",
      "systemctl start kubelet",
    ]);
  });
});

test("rollBack(): a kubelet without its configuration stays stopped", async () => {
  await lookAt(WORKER, async ({ root, calls }, said) => {
    const saved = await saveTrust(await readNode());
    begin(root);
    rmSync(`${root}/var/lib/kubelet/config.yaml`);
    await rollBack(saved);
    expect(calls().filter((call) => /systemctl start/.test(call))).toEqual([]);
    expect(said.filter((line) => line.includes("unchanged kubelet, which is stopped"))).toHaveLength(1);
  });
});

test("a join that was cut off goes on with the files from before, and its end forgets them", async () => {
  await lookAt(WORKER, async ({ root, read }) => {
    const [before, node] = [read(CONF), await readNode()];
    expect([wasCutOff(node), confBefore(node)]).toEqual([false, before]);
    const saved = await saveTrust(node);
    begin(root);
    write(root + CONF, "a new kubelet.conf");
    expect([wasCutOff(node), confBefore(node)]).toEqual([true, before]);
    expect((await saveTrust(node)).dir).toBe(saved.dir);
    expect(readFileSync(`${root}${saved.dir}/before${CONF}`, "utf8")).toBe(before);
    write(`${root}/root/token`, "abcdef.0123456789abcdef\n");
    endJoin(node, "/root/token");
    expect([wasCutOff(node), existsSync(root + BOOTSTRAP), read(CONF)]).toEqual([
      false,
      false,
      "a new kubelet.conf",
    ]);
  });
});

test("what runs is counted before; where the runtime is silent, nothing is known of it", async () => {
  const running = await lookAt(WORKER, async () => (await saveTrust(await readNode())).containers);
  expect(running).toEqual(["kube-proxy-id", "coredns-id"]);
  const silent = await lookAt(
    { ...WORKER, without: ["crictl"] },
    async () => (await saveTrust(await readNode())).containers,
  );
  expect(silent).toBeUndefined();
});

test("a worker without kubelet.conf has none from before", async () => {
  const conf = await lookAt({ ...WORKER, change: ({ root }) => rmSync(root + CONF) }, async () =>
    confBefore(await readNode()),
  );
  expect(conf).toBeUndefined();
});

/** Three places of the API: this worker's old one, that of the line of open, and that of its file. */
const [OWN, GIVEN, AT] = [31, 32, 33].map(
  (last) => `https://${ADDRESS.replace(/11$/, String(last))}:6443`,
) as [string, string, string];
type Answers = "ours" | "another's" | "nobody";

test.each<
  [
    what: string,
    answers: [own: Answers, given: Answers, at: Answers],
    joins: string,
    says: string | undefined,
  ]
>([
  ["its own where it answers", ["ours", "ours", "ours"], OWN, `unchanged ${OWN}`],
  [
    "open's where its own is silent",
    ["nobody", "ours", "ours"],
    GIVEN,
    `${OWN}: does not answer with the new CA yet`,
  ],
  ["open's where its own is another's", ["another's", "ours", "ours"], GIVEN, `${OWN}: does not answer`],
  ["its file's where both are", ["nobody", "another's", "ours"], AT, `${OWN}, ${GIVEN}: does not answer`],
  [
    "none where nobody answers",
    ["nobody", "nobody", "nobody"],
    `Cannot reach "${GIVEN}" with that CA`,
    undefined,
  ],
  [
    "none where another's are there",
    ["another's", "another's", "another's"],
    `Cannot reach "${GIVEN}" with that CA`,
    undefined,
  ],
])("a worker joins at the first server that answers with the new CA: %s", async (_, answers, joins, says) => {
  const [ca, other] = [(await healthyCp()).ca, await otherCa()];
  const servers = { ours: ca, "another's": other };
  const change = ({ root, read }: PretendNode) =>
    writeFileSync(root + CONF, read(CONF).replace(/server: .*/, `server: ${OWN}`));
  await lookAt({ ...WORKER, change }, async (_node, said) => {
    using all = new DisposableStack();
    for (const [index, at] of [OWN, GIVEN, AT].entries()) {
      const who = answers[index]!;
      if (who === "nobody") continue;
      const { hostname } = new URL(at);
      const own = await issueLeaf(certRow("apiserver"), servers[who], {
        ...FACTS,
        advertiseAddress: hostname,
      });
      const server = Bun.serve({ hostname, port: 6443, tls: own, fetch: () => Response.json({}) });
      all.defer(() => void server.stop(true));
    }
    const node = await readNode();
    const found = await attemptLater(() => wayToApi(node, GIVEN, { ca: ca.cert, at: AT }));
    if (found instanceof Fail) return expect(found.message).toContain(joins);
    expect(found).toEqual({ server: joins, any: [OWN, GIVEN, AT] });
    expect(said.join("\n")).toContain(says!);
  });
});

test.each<[what: string, change: (node: PretendNode) => unknown, server: string | undefined]>([
  ["its kubelet.conf", () => undefined, `https://${ADDRESS}:6443`],
  ["none, without kubelet.conf and without static pods", ({ root }) => rmSync(root + CONF), undefined],
])("the server that a worker had before is that of %s", async (_, change, server) => {
  const seen = await lookAt({ ...WORKER, change }, async () => serverBefore(await readNode(), GIVEN));
  expect(seen).toBe(server as string);
});
