/**
 * A colleague's kubeadm in each layout: what it has made of another CA is named on both screens, parts 1 and 2 mend it,
 * and then every path to a shared key leads to the cluster's. Where kubeadm's usual folder is the cluster's, all of it
 * is well.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, lstatSync, readdirSync, readFileSync, rmSync, symlinkSync, unlinkSync } from "node:fs";
import { attempt } from "../../shared/fail.ts";
import { privateKeysIn, publicKeyHash, trustedKeys } from "../../shared/pki/certificate.ts";
import { parseKubeconfig } from "../../shared/pki/kubeconfigs.ts";
import type { ApiOptions } from "../pretend/api.ts";
import { write } from "../pretend/cluster.ts";
import { agedText } from "../pretend/expired.ts";
import type { PretendNode } from "../pretend/in-process.ts";
import { DIR, LAYOUTS, type Layout, nodeIn, serveIn } from "../pretend/layouts.ts";
import { MANAGER_LEASE, SCHEDULER_LEASE } from "../pretend/running.ts";
import { USUAL } from "../pretend/strangers-folder.ts";
import { type StrangersCommand, strangersKubeadm } from "../pretend/strangers-kubeadm.ts";
import { here } from "../pretend/typed-here.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

type Play = { name: string; commands: StrangersCommand[]; away?: string[]; rows: string[] };

const CONF = "/etc/kubernetes";
// biome-ignore format: a table
const PLAYS: Play[] = [
  { name: "init phase certs all", commands: ["init phase certs all"], rows: ["usual-folder"] },
  { name: "init phase kubeconfig all", commands: ["init phase certs all", "init phase kubeconfig all"], rows: ["usual-folder", "kubeconfig-super-admin"] },
  { name: "init phase kubeconfig all after mv admin.conf", commands: ["init phase certs all", "init phase kubeconfig all"], away: ["admin"], rows: ["usual-folder", "kubeconfig-admin", "kubeconfig-super-admin"] },
  { name: "init phase kubeconfig all after mv kubelet.conf", commands: ["init phase certs all", "init phase kubeconfig all"], away: ["kubelet"], rows: ["usual-folder", "kubeconfig-super-admin", "kubelet-conf"] },
  { name: "certs renew all", commands: ["init phase certs all", "certs renew all"], rows: ["usual-folder", "kubeconfig-admin", "kubeconfig-controller-manager", "kubeconfig-scheduler"] },
  { name: "kubeconfig all, then certs renew all", commands: ["init phase certs all", "init phase kubeconfig all", "certs renew all"], rows: ["usual-folder", "kubeconfig-admin", "kubeconfig-super-admin", "kubeconfig-controller-manager", "kubeconfig-scheduler"] },
];

const filesBelow = (folder: string) =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((file) => file.isFile())
    .map(({ parentPath, name }) => `${parentPath}/${name}`);

/** Files below /etc/kubernetes with a key that is not one of these. */
function strangersIn(root: string, cluster: ReadonlySet<string>): string[] {
  const files = filesBelow(root + CONF).filter((path) => keysIn(path).some((key) => !cluster.has(key)));
  return files.map((path) => path.slice(root.length));
}

/** The public keys of a CA, of private keys, and of the CA that a kubeconfig trusts. */
function keysIn(path: string): string[] {
  const text = readFileSync(path, "utf8");
  if (path.endsWith(".conf")) return [...trustedKeys(attempt(() => parseKubeconfig(text, path).caPem, ""))];
  if (!/\/(ca|front-proxy-ca|sa)\.(crt|key|pub)$/.test(path)) return [];
  return [...trustedKeys(text), ...privateKeysIn(text).map(publicKeyHash)];
}

/** Below root's home are the runs' own. */
const filesOf = (node: PretendNode) => node.fingerprint().filter((line) => !line.startsWith("root"));

/** Rows that failed; in part 5 without those of the API, which a stranger's kubeconfig does not reach. */
const failedOf = (stdout: string): string[] => {
  const { checks, damage } = JSON.parse(stdout);
  return (checks ?? damage)
    .filter(({ result }: { result: string }) => result === "failed")
    .map(({ id }: { id: string }) => id)
    .filter((id: string) => /^(usual-folder|named-key|kubeconfig-|kubelet)/.test(id))
    .toSorted();
};

/** Who leads renews its Lease whenever somebody asks. */
const LEADS: ApiOptions["on"] = ({ path, method }, { objects }) => {
  const isLeaders = [SCHEDULER_LEASE, MANAGER_LEASE].includes(path);
  if (isLeaders && method === "GET")
    objects.get(path).spec.renewTime = new Date(Date.now() + renewals++).toISOString();
  return undefined;
};
let renewals = 0;

for (const layout of Object.keys(LAYOUTS) as Layout[])
  for (const { name, commands, away = [], rows } of PLAYS)
    test(`${layout}: a colleague's kubeadm ${name}`, async () => {
      using node = here(await nodeIn(layout));
      using _servers = serveIn(layout, node, { on: LEADS });
      const usualIsOwn = DIR[layout] === USUAL;
      const cluster = new Set(
        [CONF, DIR[layout]].flatMap((dir) => filesBelow(node.root + dir).flatMap(keysIn)),
      );
      // a link that is there leads each kubeadm to the cluster's own
      if (!usualIsOwn && existsSync(node.root + USUAL)) unlinkSync(node.root + USUAL);
      for (const file of away) rmSync(`${node.root}${CONF}/${file}.conf`);
      for (const command of commands) await strangersKubeadm(command, node);
      for (const script of ["00-assess", "05-verify"]) {
        const { stdout, exitCode } = await node.run(`${script} --output json`);
        expect({ script, exitCode, failed: failedOf(stdout) }).toEqual({
          script,
          ...(usualIsOwn ? { exitCode: 0, failed: [] } : { exitCode: 2, failed: rows.toSorted() }),
        });
      }
      const before = filesOf(node);
      for (const part of ["01-etcd", "02-control-plane"])
        expect({ part, ...(await node.run(part)) }).toMatchObject({ part, exitCode: 0 });
      if (usualIsOwn) return void expect(filesOf(node)).toEqual(before);
      expect(await node.run("00-assess")).toMatchObject({ exitCode: 0 });
      expect(failedOf((await node.run("05-verify --output json")).stdout)).toEqual([]);
      expect(lstatSync(node.root + USUAL).isSymbolicLink()).toBe(true);
      expect(strangersIn(node.root, cluster)).toEqual([]);
    });

test.each(["kubespray", "certificatesDir elsewhere"] as const)(
  "%s: kubeadm's usual folder is a link to the cluster's, so a colleague's kubeadm signs with it, and nothing is touched",
  async (layout) => {
    using node = here(await nodeIn(layout));
    using _servers = serveIn(layout, node, { on: LEADS });
    if (!existsSync(node.root + USUAL)) symlinkSync(`../..${DIR[layout]}`, node.root + USUAL);
    const cluster = new Set(filesBelow(node.root + DIR[layout]).flatMap(keysIn));
    for (const command of ["init phase certs all", "init phase kubeconfig all", "certs renew all"] as const)
      await strangersKubeadm(command, node);
    // kubespray's etcd has a folder of its own: nobody reads the CA that kubeadm makes for one
    expect(strangersIn(node.root, cluster).filter((path) => !path.includes("/etcd/"))).toEqual([]);
    const before = filesOf(node);
    for (const script of ["00-assess", "05-verify", "01-etcd", "02-control-plane"])
      expect({ script, ...(await node.run(script)) }).toMatchObject({ script, exitCode: 0 });
    expect(filesOf(node)).toEqual(before);
  },
);

test("a super-admin.conf of the cluster's CA that has expired harms nobody: nothing is named, nothing is written", async () => {
  using node = here(await nodeIn("kubeadm's default"));
  using _servers = serveIn("kubeadm's default", node, { on: LEADS });
  await strangersKubeadm("init phase kubeconfig all", node);
  const [path, key] = [`${node.root}${CONF}/super-admin.conf`, `${node.root}${USUAL}/ca.key`];
  write(path, (await agedText(readFileSync(path, "utf8"), readFileSync(key, "utf8")))!);
  const before = filesOf(node);
  for (const script of ["00-assess", "05-verify", "01-etcd", "02-control-plane"])
    expect({ script, ...(await node.run(script)) }).toMatchObject({ script, exitCode: 0 });
  expect(filesOf(node)).toEqual(before);
});
