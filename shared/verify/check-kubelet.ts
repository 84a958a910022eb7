/**
 * Checks of this node's kubelet: its certificate is of the CA that it trusts, its kubelet.conf works, and a
 * new pod can get a network.
 */

import { KubeApi } from "../api/kube-api.ts";
import type { Answer, CheckRow } from "../checks/check.ts";
import { knownHere, stoppedProcesses } from "../evidence/owners.ts";
import { readText } from "../files/files.ts";
import { cniKubeconfigs, trustsOldCa } from "../node/cni-trust.ts";
import { type Container, containersIfAny } from "../node/containers.ts";
import { stateOfPem } from "../node/kubelet-certs.ts";
import { clientText } from "../node/kubelet-config.ts";
import { kubeletsOtherName, type Node } from "../node/node.ts";
import { kubeletsEndedConf } from "../node/systemctl-kubelet.ts";
import { certInfo } from "../pki/certificate.ts";
import { day } from "../pki/judge.ts";
import { readKubeconfig } from "../pki/kubeconfigs.ts";
import { trustedKeys } from "../pki/trusted-keys.ts";
import { listed } from "../plain.ts";
import { shell } from "../shell-line.ts";

export function kubeletChecks(node: Node): CheckRow[] {
  const { clientPem, kubeconfig, bootstrapKubeconfig } = node.kubelet;
  return [
    { id: "kubelet-client-certificate", of: clientPem, look: () => clientCertificate(node) },
    { id: "stopped-process", look: async () => stopped(await containersIfAny(node)) },
    { id: "kubelet-conf", of: kubeconfig, look: () => kubeletConf(node) },
    {
      id: "bootstrap-kubelet-conf",
      of: bootstrapKubeconfig,
      look: () =>
        readText(bootstrapKubeconfig) === undefined
          ? "not there, as it should be"
          : { warning: "still there: it holds a token" },
    },
    ...(node.hostName.toLowerCase() === node.name
      ? []
      : [{ id: "kubelet-name" as const, look: () => kubeletName(node) }]),
    ...cniKubeconfigs().map((of) => ({
      id: "cni-kubeconfig" as const,
      of,
      look: () => cniKubeconfig(node, of),
    })),
  ];
}

/** Of other namespaces it is only named: whoever runs the pod may have stopped it. */
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

async function kubeletName(node: Node): Promise<Answer> {
  const other = await kubeletsOtherName(node);
  return other ? { warning: other.message } : `${node.name}, on the host ${node.hostName}`;
}

/** Of the network plugin's program on this node. */
async function cniKubeconfig({ kubelet: { clientCaFile } }: Node, path: string): Promise<Answer> {
  const isOld = await trustsOldCa(path, readText(clientCaFile) ?? "");
  return isOld
    ? { failed: "trusts the old CA: the network plugin's agent here has to restart" }
    : "reaches the API, as far as its CA shows";
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
