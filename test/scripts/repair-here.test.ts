/**
 * `./bunw scripts/repair.ts` on the only node of a cluster, to its end: no laptop, no ssh, no kit for others. Each script
 * runs as it is typed there, in a process of its own.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Logged } from "../../shared/follow/session.ts";
import { serviceAccountKeyId } from "../../shared/pki/sa-keys.ts";
import type { Objects } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { pretendNode } from "../pretend/node.ts";
import type { FakeCommand } from "../pretend/programs.ts";
import { LEASES, living, serveRunning } from "../pretend/running.ts";

setDefaultTimeout(300_000);

const HOME = join(import.meta.dir, "../..");

/** No worker. */
function alone(objects: Objects) {
  for (const key of Object.keys(objects)) if (/^minions\/w|\/w[12]$/.test(key)) delete objects[key];
}

const CONTAINERS = ["kube-apiserver", "kube-controller-manager", "kube-proxy"];

/** What `bunw` of a checkout asks for, and the folder that the runbook has made: it is the pretend node's. */
const SHELL: FakeCommand[] = [
  { command: "uname -m", does: "exec /bin/uname -m" },
  { command: "uname -s", does: "exec /bin/uname -s" },
  { command: "cmp *", does: 'exec /usr/bin/cmp "$@"' },
  { command: "mkdir -p -m 700 logs.d", does: 'exec /bin/mkdir -p "$KUBE_PKI_REPAIR_ROOT$PWD/logs.d"' },
  { command: "mkdir *", does: 'exec /bin/mkdir "$@"' },
];

type Node = Awaited<ReturnType<typeof pretendNode>>;

/** Ends at its own end; who waits for something of it goes on then, too. */
function repair(node: Node, folder: string) {
  const argv = [process.execPath, `${HOME}/scripts/repair.ts`, "--yes", "--new-keys", "--log", "repair.log"];
  const own = { PWD: folder, KUBE_PKI_REPAIR_ROOT: node.root, KUBE_PKI_REPAIR_PATIENCE: "0.1" };
  const child = Bun.spawn(argv, {
    ...{ cwd: folder, stdin: "ignore", stdout: "pipe", stderr: "pipe" },
    env: { ...node.env, ...own, HOME: process.env.HOME! },
  });
  return Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text(), child.exited]);
}

/** The API that part 2 starts, with its certificate. */
function served(node: Node) {
  const sa = "/etc/kubernetes/pki/sa.pub";
  const api = serveRunning(node, {
    on: living(["m1"], ({ path }) =>
      path === "/openid/v1/jwks"
        ? Response.json({ keys: [{ kid: serviceAccountKeyId(node.read(sa)) }] })
        : undefined,
    ),
    objects: {
      "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication": {
        data: { "client-ca-file": node.ca.cert },
      },
    },
  });
  for (const name of ["w1", "w2"])
    for (const path of ["/api/v1/nodes", LEASES]) api.objects.delete(`${path}/${name}`);
  return api;
}

test("all is lost on a single node: one command there repairs it, and part 5 proves it", async () => {
  using node = await pretendNode({ etcd: alone, containers: CONTAINERS, commands: SHELL });
  const folder = mkdtempSync(join(tmpdir(), "here-"));
  const end = repair(node, folder);
  await Promise.race([node.called("systemctl restart kubelet"), end]);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  await Promise.race([node.written("/etc/kubernetes/manifests/kube-apiserver.yaml"), end]);
  using _api = served(node);
  const [stdout, stderr, exitCode] = await end;
  expect({ exitCode, stdout }).toEqual({
    exitCode: 0,
    stdout: expect.stringContaining("Repaired, and verified, in "),
  });
  expect(stderr).toMatch(/\n {2}m1: \d+ checks, all good/);
  expect(stderr).not.toMatch(/packs this kit|packs the kit|token for {2}/);
  const logged = readFileSync(join(folder, "repair.log"), "utf8").trim().split("\n");
  const typed = logged.map((line) => JSON.parse(line) as Logged);
  expect(typed.filter(({ step }) => step).map(({ command, exitCode: code }) => `${code} ${command}`)).toEqual(
    [
      "0 systemctl stop kubelet",
      expect.stringContaining("kill -STOP"),
      "0 ./bunw scripts/01-etcd.ts --new-cas",
      "0 ./bunw scripts/02-control-plane.ts",
      "0 ./bunw scripts/03-workers.ts open",
      "0 ./bunw scripts/03-workers.ts close",
      "0 ./bunw scripts/04-sa-tokens.ts --dry-run",
      "0 ./bunw scripts/04-sa-tokens.ts",
      "0 ./bunw scripts/05-verify.ts",
      "0 mkdir -p -m 700 logs.d",
      "0 ./bunw scripts/report.ts report.html --logs logs.d",
    ],
  );
});
