/**
 * A thousand workers get a renewed CA, one after the other, with one API server for all of them: it is asked,
 * and never written to, no certificate is requested, and each kubelet restarts once. Three in a sample; WORKERS=N
 * takes so many.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, rmSync } from "node:fs";
import { stringify } from "yaml";
import { caIn } from "../../shared/pki/kubeconfigs.ts";
import { renewCa } from "../../shared/pki/renew.ts";
import { ADDRESS, write, writeKubelet } from "../pretend/cluster.ts";
import { LEASE, serve } from "../pretend/joining.ts";
import { LONG_LIFE } from "../pretend/long-lives.ts";
import { pretendProcess } from "../pretend/memory.ts";
import { pretendNode } from "../pretend/node.ts";
import { here } from "../pretend/typed-here.ts";
import { IS_SAMPLE } from "./sample.ts";

setDefaultTimeout(3_600_000);

const COUNT = Number(process.env.WORKERS || (IS_SAMPLE ? 3 : 1000));
const [CA, CONF] = ["/etc/kubernetes/pki/ca.crt", "/etc/kubernetes/kubelet.conf"];

test("each worker's two files change and nothing else; no CSR, no token, no write", async () => {
  using node = here(await pretendNode({ kind: "worker" }));
  const { ca } = node;
  using api = await serve(ca);
  const renewed = renewCa(ca.cert, ca.key, { hours: LONG_LIFE, signed: [] });
  const server = `https://${ADDRESS}:6443`;
  const cluster = { server, "certificate-authority-data": btoa(renewed) };
  api.objects.set("/api/v1/namespaces/kube-public/configmaps/cluster-info", {
    data: { kubeconfig: stringify({ clusters: [{ name: "", cluster }] }) },
  });
  const leases = LEASE.replace(/w1$/, "");
  const kubelets = `${node.root}/var/lib/kubelet/pki`;
  pretendProcess(node.root, { pid: 60, comm: "kubelet", started: new Date(Date.now() - 86_400_000) });
  for (let i = 1; i <= COUNT; i++) {
    const name = `w${i}`;
    rmSync(kubelets, { recursive: true });
    await writeKubelet(node.root, name, { ca, server });
    // all of them on this one host
    write(
      `${node.root}/var/lib/kubelet/kubeadm-flags.env`,
      `KUBELET_KUBEADM_ARGS=--hostname-override=${name}\n`,
    );
    write(node.root + CA, ca.cert, 0o644);
    api.objects.set(leases + name, { spec: { renewTime: new Date(Date.now() + 3_600_000).toISOString() } });
    const [pairs, asked, calls] = [readdirSync(kubelets), api.requests.length, node.calls().length];
    const { exitCode, stderr } = await node.run("renew-ca");
    expect({ name, exitCode, stderr }).toMatchObject({ exitCode: 0 });
    expect([name, node.read(CA), caIn(node.read(CONF))]).toEqual([name, renewed, renewed]);
    expect(readdirSync(kubelets)).toEqual(pairs);
    const requests = api.requests.slice(asked);
    expect(requests.filter(({ method }) => method !== "GET")).toEqual([]);
    const paths = new Set(requests.map(({ path }) => path));
    expect([...paths].sort()).toEqual(
      [leases + name, "/api/v1/namespaces/kube-public/configmaps/cluster-info"].sort(),
    );
    const acts = node
      .calls()
      .slice(calls)
      .filter((call) => /systemctl (stop|start|restart)/.test(call));
    expect(acts).toEqual(["systemctl restart kubelet"]);
    for (const folder of readdirSync(`${node.root}/root`))
      if (folder.startsWith("kube-pki-repair-")) rmSync(`${node.root}/root/${folder}`, { recursive: true });
  }
});
