/**
 * kubespray's layout after a colleague's kubeadm, the real one and without a configuration: it makes a CA of its own in
 * its usual folder. Parts 1 and 2 mend it, and then kubeadm's own lines sign with the cluster's CA.
 */
import { lstatSync, readFileSync } from "node:fs";
import { certificatesIn, signedBy } from "../../../shared/pki/certificate.ts";
import { kubeconfigRow, parseKubeconfig } from "../../../shared/pki/kubeconfigs.ts";
import { kubespray } from "../machine/kubespray.ts";
import { type Scenario, type Scene, startClock, type } from "../scene/scene.ts";
import { allLost } from "./all-lost.ts";

const USUAL_FOLDER = "/etc/kubernetes/pki";

export const colleaguesKubeadm: Scenario = {
  ...allLost,
  name: "colleagues-kubeadm",
  title:
    "kubespray's layout: a colleague removes the link to its certificates and types kubeadm without a configuration; parts 1 and 2 mend what it has made, and kubeadm then signs with the cluster's CA",
  byRunbook: false,
  oldKeys: true,
  profile: () => kubespray(),
  lines: [
    { title: "A colleague types kubeadm's phases without a configuration", run: colleagueTypes },
    { title: "Both screens name what kubeadm has made", run: isNamed },
    { title: "The operator types parts 1 and 2", run: isMended },
    { title: "kubeadm's own lines find the cluster's keys", run: kubeadmAgain },
  ],
};

/** kubeadm refuses to write over a kubeconfig with another CA: the colleague deletes that, too. */
async function colleagueTypes(scene: Scene) {
  const [node] = scene.lab.controlPlanes;
  startClock(scene);
  for (const line of [
    `rm ${USUAL_FOLDER}`,
    "rm /etc/kubernetes/super-admin.conf",
    "kubeadm init phase certs all",
    "kubeadm init phase kubeconfig super-admin",
  ])
    await type(scene, node!, line, { cwd: "/root" });
}

async function isNamed(scene: Scene) {
  for (const script of ["00-assess", "05-verify"]) {
    const { stdout } = await type(scene, scene.lab.controlPlanes[0]!, `./bunw scripts/${script}.ts`, {
      exit: [2],
    });
    const lacks = ["somebody made a new CA", "super-admin.conf"].filter((words) => !stdout.includes(words));
    scene.checks.push({
      name: `${script} names the folder and super-admin.conf`,
      ok: lacks.length === 0,
      detail: lacks.length > 0 ? `not there: ${lacks}; ${stdout.slice(-1500)}` : "both",
    });
  }
}

async function isMended(scene: Scene) {
  const node = scene.lab.controlPlanes[0]!;
  for (const part of ["01-etcd", "02-control-plane"])
    await type(scene, node, `./bunw scripts/${part}.ts`, { part: Number(part[1]) });
  const isLink = lstatSync(node.path(USUAL_FOLDER)).isSymbolicLink();
  scene.checks.push({ name: `${USUAL_FOLDER} is a link again`, ok: isLink, detail: String(isLink) });
}

/** It signs super-admin.conf again, too, and asks its usual folder where the API does not say which one. */
async function kubeadmAgain(scene: Scene) {
  const node = scene.lab.controlPlanes[0]!;
  for (const line of ["init phase certs all", "certs renew all"])
    await type(scene, node, `kubeadm ${line}`, { cwd: "/root" });
  await type(scene, node, "./bunw scripts/05-verify.ts", { part: 5 });
  const read = (path: string) => readFileSync(node.path(path), "utf8");
  const ca = read(`${scene.lab.profile.certificatesDir}/ca.crt`);
  const strange = (["admin", "super-admin", "controller-manager", "scheduler"] as const).filter((name) => {
    const { path } = kubeconfigRow(name);
    const { caPem, clientCertPem = "" } = parseKubeconfig(read(path), path);
    return certificatesIn(caPem)[0] !== certificatesIn(ca)[0] || !signedBy(clientCertPem, ca);
  });
  scene.checks.push({
    name: "kubeadm's renewal has signed every kubeconfig with the cluster's CA",
    ok: strange.length === 0,
    detail: strange.join(", ") || "all four",
  });
}
