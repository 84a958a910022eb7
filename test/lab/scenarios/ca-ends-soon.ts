/**
 * The cluster's CAs are about to expire, all three in one second; the operator renews them in time, and that second
 * passes.
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { parse, stringify } from "yaml";
import { certInfo } from "../../../shared/pki/certificate.ts";
import { issueClient } from "../../../shared/pki/issue.ts";
import { KUBELET_CLIENT_PEM } from "../../../shared/pki/kubeconfigs.ts";
import { testFacts } from "../../pretend/facts.ts";
import { type Machine, sh } from "../machine/machine.ts";
import { followGuide } from "../scene/follow-repair.ts";
import { blockThatBegins } from "../scene/runbook-block.ts";
import { note, type Scenario, type Scene, sayAndWait, startClock, type } from "../scene/scene.ts";
import { type Asked, askEverySecond, CLIENTS, LOOKS_AT_NO_DATES } from "../scene/tls-clients.ts";
import { allLost } from "./all-lost.ts";
import { compareCas, endingIn, keepCas, readCa } from "./ca-ended.ts";
import { HA_TAGS } from "./expired.ts";

const RENEW = blockThatBegins("./bunw scripts/renew-ca.ts --dry-run");
const VERIFY = "./bunw scripts/05-verify.ts";

export const caEndsSoon: Scenario = {
  ...allLost,
  name: "ca-ends-soon",
  title: "All CAs are about to expire; the operator renews them with RUNBOOK-MORE.md, and the second passes",
  byRunbook: true,
  kubeletsRestart: true,
  profile: endingIn(6),
  lines: [
    { title: "kubelet.conf holds a certificate that has expired, on two nodes", run: expireInside },
    { title: "The operator renews the CAs on every node", run: renewAll },
    { title: "The old CAs expire, with clients that ask every second", run: theSecondPasses },
    { title: "The renewed CAs are compared", run: compareCas },
    { title: "Every server and kubelet restarts at once", run: restartAll },
  ],
};

export const haCaEndsSoon: Scenario = {
  ...caEndsSoon,
  name: "ha-ca-ends-soon",
  title: "As ca-ends-soon, on three control plane nodes and two workers",
  controlPlanes: 3,
  workers: 2,
  profile: endingIn(11),
};

/**
 * Whoever has serving certificates of the CA has an approver (the lab has approved once, as it was built). What was
 * signed before ends with the old CA, so all kubelets ask again before.
 */
const APPROVE = `export KUBECONFIG=/etc/kubernetes/admin.conf; until test -e /var/log/approver-stops; do
kubectl get csr -o jsonpath='{range .items[?(@.spec.signerName=="kubernetes.io/kubelet-serving")]}{.metadata.name} {.status.conditions[0].type}{"\\n"}{end}' |
awk 'NF == 1' | xargs -r kubectl certificate approve; sleep 2; done`;

const CONF = "/etc/kubernetes/kubelet.conf";

const withOldConf = ({ lab }: Scene) => [lab.controlPlanes[0]!, lab.workers[0]!];

/**
 * As `kubeadm init phase kubeconfig all` has left it two years ago: the kubelet has rotated its own since, and runs on.
 * Its next start looks at this file alone.
 */
async function expireInside(scene: Scene) {
  const { certificatesDir } = scene.lab.profile;
  const [cert, key] = ["crt", "key"].map((end) =>
    readFileSync(scene.lab.controlPlanes[0]!.path(`${certificatesDir}/ca.${end}`), "utf8"),
  );
  const now = new Date(Date.now() - 2 * 366 * 86_400_000);
  for (const node of withOldConf(scene)) {
    const user = { cn: `system:node:${node.nodeName}`, o: "system:nodes" };
    const pair = await issueClient(user, { cert: cert!, key: key! }, testFacts(), { now });
    const conf = parse(readFileSync(node.path(CONF), "utf8"));
    const [data, keyData] = [pair.cert, pair.key].map((pem) => Buffer.from(pem).toString("base64"));
    conf.users[0].user = { "client-certificate-data": data, "client-key-data": keyData };
    writeFileSync(node.path(CONF), stringify(conf), { mode: 0o600 });
    await type(scene, node, "./bunw scripts/00-assess.ts", { exit: [2] });
  }
}

/** The kubelets have restarted with it: `renew-ca` waits for their Leases. */
function checkConfs(scene: Scene) {
  const paths = withOldConf(scene).map(
    (node) => parse(readFileSync(node.path(CONF), "utf8")).users[0].user["client-certificate"] ?? "inside",
  );
  scene.checks.push({
    name: "kubelet.conf names the certificate that the kubelet rotates, where the one inside had expired",
    ok: paths.every((path) => path === KUBELET_CLIENT_PEM),
    detail: paths.join(", "),
  });
}

async function renewAll(scene: Scene) {
  await keepCas(scene);
  void scene.lab.controlPlanes[0]!.run(["bash", "-c", APPROVE]);
  startClock(scene);
  const { controlPlanes, workers } = scene.lab;
  for (const node of [...controlPlanes, ...workers]) for (const line of RENEW) await type(scene, node, line);
  const again = await type(scene, controlPlanes[0]!, "./bunw scripts/renew-ca.ts");
  scene.checks.push({
    name: "run again, nothing is written and nothing restarts",
    ok: again.stderr.includes("nothing restarts") && !/\bwrote\b/.test(again.stderr),
    detail: again.stderr.trim().split("\n").at(-1) ?? "",
  });
  checkConfs(scene);
  await findCopies(scene, again.stderr);
  note(scene, "the CAs are renewed on every node");
}

/** People have the old certificate in a Secret's kubeconfig and in a file: the lines that are printed find both. */
async function findCopies(scene: Scene, printed: string) {
  const [first] = scene.lab.controlPlanes as [Machine];
  const pem = (await keepCas(scene)).get("ca")!;
  const config = `certificate-authority-data: ${Buffer.from(pem).toString("base64")}\n`;
  writeFileSync(first.path("/etc/ours.conf"), config);
  await sh(
    first,
    "kubectl --kubeconfig /etc/kubernetes/admin.conf -n default create secret generic ours --from-file=/etc/ours.conf",
  );
  const lines = [/On each machine: (grep .*)$/m, /copies in objects: (kubectl .*)$/m].map(
    (form) => form.exec(printed)?.[1] ?? "false",
  );
  const runs = await Promise.all(lines.map((line) => first.run(["bash", "-c", line])));
  const said = runs.map(({ stdout }) => stdout);
  rmSync(first.path("/etc/ours.conf"));
  scene.checks.push({
    name: "the lines that renew-ca prints find an old CA that people have copied, and show no Secret",
    ok:
      said[0]!.includes("/etc/ours.conf") &&
      /^Secret default\/ours$/m.test(said[1]!) &&
      !said[1]!.includes("ours.conf"),
    detail: said.join("; ").replaceAll("\n", ", "),
  });
}

/** Clients with the old certificate and with the renewed one, from before the second until after it. */
async function theSecondPasses(scene: Scene) {
  const [first] = scene.lab.controlPlanes as [Machine];
  const old = await keepCas(scene);
  const end = Math.max(...[...old.values()].map((pem) => certInfo(pem).notAfter.getTime()));
  if (Date.now() > end - 20_000)
    throw new Error("the CAs have expired before they were renewed: give them more minutes");
  const asking = askEverySecond(first, { old: old.get("ca")!, renewed: await readCa(scene, "ca", 0) });
  await sayAndWait(scene, "the old CAs to expire", () => Date.now() > end + 20_000, {
    seconds: 900,
    hint: "openssl x509 -noout -enddate",
  });
  const asked = await asking.stop();
  note(scene, "the old CAs have expired");
  const failed = (trust: Asked["trust"], after: boolean) =>
    asked.filter((one) => one.trust === trust && one.at > end === after && !one.ok);
  const refuses = ({ client }: Asked) => !LOOKS_AT_NO_DATES.includes(client);
  const count = (trust: Asked["trust"], after: boolean) =>
    asked.filter((one) => one.trust === trust && one.at > end === after).length;
  const before = failed("old", false).length + failed("renewed", false).length;
  scene.checks.push({
    name: `new connections of ${CLIENTS.join(", ")}: with the renewed CA none fails, with the old one all do after its end, but ${LOOKS_AT_NO_DATES}`,
    ok:
      before + failed("renewed", true).length === 0 &&
      count("renewed", true) > 0 &&
      asked.filter((one) => one.trust === "old" && one.at > end).every((one) => one.ok !== refuses(one)),
    detail: `${count("old", false) + count("renewed", false)} before, ${before} failed; after: renewed ${count("renewed", true)}, ${failed("renewed", true).length} failed; old ${count("old", true)}, ${failed("old", true).length} failed`,
  });
  await verifyAll(scene, "after the old CAs have expired", /pods: older than the current CA/);
}

/** Whoever has only open connections, and the old certificate in memory, would end here. */
async function restartAll(scene: Scene) {
  const { nodes } = scene.lab;
  const names = "^(etcd|kube-apiserver|kube-controller-manager|kube-scheduler)$";
  const line = `crictl ps -q --name '${names}' | xargs -r crictl stop -t 0; systemctl restart kubelet`;
  await Promise.all(nodes.map((node) => type(scene, node, line)));
  await type(scene, scene.lab.controlPlanes[0]!, "./bunw scripts/04-sa-tokens.ts", { part: 4 });
  await verifyAll(scene, "after everything has restarted");
}

/** `but`: what the next step is for. */
async function verifyAll(scene: Scene, when: string, but?: RegExp) {
  const all = await Promise.all(
    scene.lab.nodes.map((node) => type(scene, node, but ? VERIFY : `${VERIFY} --wait 120`, { exit: [0, 2] })),
  );
  const bad = all.flatMap(({ node, stdout }) =>
    stdout
      .split("\n")
      .flatMap((line) => (/^ *failed /.test(line) && !but?.test(line) ? `${node}: ${line.trim()}` : [])),
  );
  const name = `05-verify finds nothing failed on any node ${when}${but ? ", but pods that hold the old one" : ""}`;
  scene.checks.push({ name, ok: bad.length === 0, detail: bad.join("; ") });
}

/**
 * Renewed on the first control plane node; on the second the files alone were put in place, as by hand; on the third
 * and on the workers nothing was done.
 */
export const caHalfRenewed: Scenario = {
  ...haCaEndsSoon,
  name: "ca-half-renewed",
  title:
    "The CAs are renewed on one of three control plane nodes, on another only their files; then they expire, and the operator follows RUNBOOK.md",
  byRunbook: true,
  lines: [
    { title: "Somebody begins to renew the CAs, and does not go on", run: beginToRenew },
    { title: "The old CAs expire", run: theyPass },
    { title: "The operator follows RUNBOOK.md", run: (scene) => followGuide(scene, HA_TAGS) },
    { title: "The renewed CAs are compared", run: compareCas },
  ],
};

async function beginToRenew(scene: Scene) {
  await keepCas(scene);
  const [first, second] = scene.lab.controlPlanes as [Machine, Machine];
  for (const line of RENEW) await type(scene, first, line);
  for (const file of ["ca", "etcd/ca", "front-proxy-ca"]) {
    const path = `${scene.lab.profile.certificatesDir}/${file}.crt`;
    writeFileSync(second.path(`${path}.new`), await readCa(scene, file, 0));
    renameSync(second.path(`${path}.new`), second.path(path));
  }
}

async function theyPass(scene: Scene) {
  const old = await keepCas(scene);
  const end = Math.max(...[...old.values()].map((pem) => certInfo(pem).notAfter.getTime()));
  await sayAndWait(scene, "the old CAs to expire", () => Date.now() > end + 5000, {
    seconds: 900,
    hint: "openssl x509 -noout -enddate",
  });
  startClock(scene);
  note(scene, "the old CAs have expired");
}
