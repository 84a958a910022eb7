/**
 * Checks of this node: its kubelet, which has to work with the CA that it trusts; on a control plane node
 * also the clock, certificates, kubeconfigs, manifests and their files.
 */
import { ADMIN_CONF } from "../api/admin-api.ts";
import { KubeApi } from "../api/kube-api.ts";
import { type Answer, type CheckRow, check } from "../checks/check.ts";
import { openFiles } from "../checks/forecast.ts";
import { checkIdOf } from "../checks/kinds.ts";
import { knownHere, stoppedProcesses } from "../evidence/owners.ts";
import { clockTrouble } from "../facts/clock.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { believedPeers } from "../facts/known-nodes.ts";
import { attempt, Fail } from "../fail.ts";
import { exists, readText } from "../files/files.ts";
import { backupAnswer } from "../hand-over/backup-mark.ts";
import { hostFiles } from "../manifests/command.ts";
import { manifestPath, readManifest } from "../manifests/on-disk.ts";
import { CONTROL_PLANE, type Container, containersIfAny } from "../node/containers.ts";
import { cniKubeconfigs, stateOfPem, trustsOldCa } from "../node/credentials.ts";
import { clientText } from "../node/kubelet-config.ts";
import { kubeletsOtherName, type Node } from "../node/node.ts";
import { heldIn, rescuedEtcd, rescuedFiles } from "../node/rescue-folder.ts";
import { kubeletsEndedConf } from "../node/systemctl-kubelet.ts";
import { certInfo, infoOf, isValidNow, signedBy } from "../pki/certificate.ts";
import { clusterCa, pkiFindings, wholePki, withAdminElsewhere } from "../pki/examine.ts";
import { day } from "../pki/judge.ts";
import { kubeconfigRows, ROOTS, readKubeconfig } from "../pki/kubeconfigs.ts";
import { trustedKeys } from "../pki/trusted-keys.ts";
import { listed } from "../plain.ts";
import { shell } from "../shell-line.ts";
import { mountsSuperAdmin, otherStaticPods, SERVERS } from "../static-pods/wanted-manifests.ts";

export function* kubeletChecks(node: Node): Generator<CheckRow> {
  const { clientPem, clientCaFile, kubeconfig, bootstrapKubeconfig } = node.kubelet;
  yield check("kubelet-client-certificate", () => clientCertificate(node), clientPem);
  yield check("stopped-process", async () => stopped(await containersIfAny(node)));
  yield check("kubelet-conf", () => kubeletConf(node), kubeconfig);
  yield check(
    "bootstrap-kubelet-conf",
    () =>
      readText(bootstrapKubeconfig) === undefined
        ? "not there, as it should be"
        : { warning: "still there: it holds a token" },
    bootstrapKubeconfig,
  );
  if (node.hostName.toLowerCase() !== node.name)
    yield check("kubelet-name", async () => {
      const other = await kubeletsOtherName(node);
      return other ? { warning: other.message } : `${node.name}, on the host ${node.hostName}`;
    });
  for (const path of cniKubeconfigs()) {
    const look = async () =>
      (await trustsOldCa(path, readText(clientCaFile) ?? ""))
        ? { failed: "trusts the old CA: the network plugin's agent here has to restart" }
        : "reaches the API, as far as its CA shows";
    yield check("cni-kubeconfig", look, path);
  }
}

/** Only names those of other namespaces: the pod's owner may have stopped it. */
function stopped(all: readonly Container[]): Answer {
  const found = stoppedProcesses(knownHere(all));
  if (found.length === 0) return "none is stopped";
  const says = `stopped by a signal: ${listed(found.map(({ comm, pid, of }) => `${comm} (pid ${pid}) of ${of}`))}`;
  const mend = shell`kill -CONT ${found.map(({ pid }) => String(pid))}`;
  return found.some(({ inKubeSystem }) => inKubeSystem)
    ? { failed: says, mend }
    : { warning: `${says}. ${mend}` };
}

function clientCertificate({ name, kubelet }: Node): Answer {
  const { clientCaFile } = kubelet;
  const state = stateOfPem(() => clientText(kubelet), readText(clientCaFile), name);
  if (state) return { state, failed: `it has to be of system:node:${name}, signed by ${clientCaFile}` };
  const { cn, notAfter } = certInfo(clientText(kubelet));
  return `${cn}, until ${day(notAfter)}`;
}

async function kubeletConf({ name, kubelet: { kubeconfig, clientCaFile } }: Node): Promise<Answer> {
  const conf = readKubeconfig(kubeconfig);
  if (!conf) return { state: "missing", failed: "" };
  const ended = await kubeletsEndedConf();
  if (ended) return { failed: ended.message, mend: ended.hint };
  if (trustedKeys(conf.caPem).isDisjointFrom(trustedKeys(readText(clientCaFile))))
    return { failed: `trusts another CA than ${clientCaFile}` };
  await KubeApi.from(conf).get(`/api/v1/nodes/${name}`);
  return `${conf.server} answers it`;
}

export function* fileChecks(cp: ControlPlaneNode): Generator<CheckRow> {
  const { facts } = cp;
  // all other checks of dates depend on the clock
  yield check("clock", async () => {
    const found = await clockTrouble(cp);
    if (found instanceof Fail) return { failed: `${found.message}; ${found.hint}` };
    return found.length > 0 ? { warning: found.join("; ") } : "nothing says that it is wrong";
  });
  const kubeconfigs = kubeconfigRows(facts, { superAdmin: mountsSuperAdmin(cp) });
  const findings = pkiFindings({ ...wholePki(facts), kubeconfigs }, facts);
  for (const { name, state, detail, differs } of withAdminElsewhere(findings, facts))
    yield check(checkIdOf(name), () => {
      if (name === "kubelet") return "see the kubelet's checks";
      return state === "ok" ? (differs ?? detail) : { state, failed: detail };
    });
  for (const name of facts.externalEtcd ? SERVERS : CONTROL_PLANE)
    yield check("manifest", () => manifest(manifestPath(cp, name)), name);
  for (const { name, namespace } of otherStaticPods(cp))
    yield check("manifest", () => manifest(manifestPath(cp, name, namespace)), name);
  yield* openFiles(cp);
  for (const rescue of rescuedFiles()) {
    const inUse = cp.dataFrom === rescuedEtcd(rescue) ? "; the scripts still use this folder" : "";
    const warning = `holds ${heldIn(rescue)}${inUse}: remove it when nothing is missing any more`;
    yield check("rescue-folder", () => ({ warning }), rescue.dir);
  }
  yield* rootsKubeconfig(facts);
  const others = believedPeers(cp.cluster, cp).map(({ name }) => name);
  if (!facts.externalCa) yield check("backup", () => backupAnswer(facts.certificatesDir, others));
}

function manifest(path: string): Answer {
  const pod = readManifest(path);
  if (!pod) return { state: "missing", failed: "" };
  // a volume without a type is mounted empty if its path is missing
  const missing = hostFiles(pod).filter(
    ({ type, path }) => type !== "" && !type.endsWith("OrCreate") && !exists(path),
  );
  return missing.length === 0
    ? "there, with all files it names"
    : { failed: `needs ${missing.map((file) => `"${file.path}" (${file.namedBy})`).join(", ")}` };
}

/**
 * kubeadm says to copy admin.conf there after `init`. A copy with another server belongs to another cluster.
 */
function* rootsKubeconfig({ certificatesDir }: ControlPlaneNode["facts"]): Generator<CheckRow> {
  const [own, admin] = [ROOTS, ADMIN_CONF].map((path) => attempt(() => readKubeconfig(path), undefined));
  const info = infoOf(own?.clientCertPem);
  if (!own?.clientCertPem || !info || own.server !== admin?.server) return;
  const look = (): Answer => {
    if (!isValidNow(info)) return { warning: `its certificate has expired (${day(info.notAfter)})` };
    const isOurs = signedBy(own.clientCertPem!, clusterCa(certificatesDir));
    return isOurs ? "as admin.conf" : { warning: "its certificate is signed by another CA" };
  };
  yield check("roots-kubeconfig", look, ROOTS);
}
