/**
 * A worker's own way to the API: its kubelet.conf may lead to a balancer of its own (a static pod at
 * 127.0.0.1:8443, a name of its network), not to the cluster's endpoint. A join changes its CA and its client
 * certificate, and no more.
 */
import { KubeApi } from "../api/kube-api.ts";
import { waitForRenewal } from "../api/leases.ts";
import { refuseOtherTime } from "../evidence/server-clock.ts";
import { Fail, failOf } from "../fail.ts";
import { readText, writeFile } from "../files/files.ts";
import type { Node } from "../node/node.ts";
import { systemctlKubelet } from "../node/systemctl-kubelet.ts";
import { refuseInClear } from "../pki/addresses.ts";
import { certInfo } from "../pki/certificate.ts";
import { serverIn, withTrust } from "../pki/kubeconfig-fields.ts";
import { readKubeconfig } from "../pki/kubeconfigs.ts";
import { whoAnswers } from "../pki/served.ts";
import { mode, say } from "../run.ts";
import { waitFor } from "../wait-for.ts";
import { confBefore } from "./saved-trust.ts";

interface Ways {
  /** Where this worker joins. */
  server: string;
  /** Where it led before, and the line of `open`: a run that was cut off may have joined at the other one. */
  either: readonly string[];
}

/**
 * Where this worker joins: where it led before if that answers with the new CA, else `given`. Its own
 * balancer may be a static pod, which does not run before the kubelet does. Errors: as `proveServer`.
 */
export async function wayToApi(node: Node, given: string, ca: string): Promise<Ways> {
  const own = serverIn(confBefore(node) ?? "");
  const either = own === undefined || own === given ? [given] : [own, given];
  const isOwn = either.length > 1 && (await whoAnswers(own!, ca)) === "ours";
  const server = isOwn ? own! : given;
  await proveServer(server, ca);
  if (isOwn)
    say(
      `unchanged ${server}, this worker's own way to the API: only the CA and the client certificate change`,
    );
  else if (own && own !== given)
    say(`${own}: this worker's own way to the API does not answer with the new CA yet; it joins at ${given}`);
  return { server, either };
}

/**
 * Proves that the API server has a certificate of this CA, and its key. It may refuse us: its answer does not
 * matter. Errors: Fail if another server answers, or none, or where its clock and ours differ.
 */
export async function proveServer(server: string, ca: string) {
  refuseInClear(server);
  await refuseOtherTime(server, ca);
  try {
    await new KubeApi({ server, ca }).reach("/version");
  } catch (cause) {
    throw new Fail(`Cannot reach "${server}" with that CA: ${(cause as Error).message}`, {
      hint: "check that the address is right and reachable from here (curl -k SERVER/version). If the certificate is of another CA: run part 2 on the control plane node that answers there",
      cause,
    });
  }
  say(`${server}: has a certificate of the CA ${certInfo(ca).publicKeyHash}`);
}

/** Seconds. What a kubelet starts first, its static pods, needs no API. */
const STARTS = 30;

/**
 * Once the kubelet has its certificate: kubelet.conf leads where it led `before`, as soon as that answers
 * with the new CA. Where it does not, or where the Lease is not renewed by it, it leads where the worker has
 * joined, and that is said.
 */
export async function leadAsBefore(node: Node, { before, ca }: { before: string | undefined; ca: string }) {
  const { kubeconfig, clientPem } = node.kubelet;
  const [own, joined] = [serverIn(before ?? ""), readText(kubeconfig)];
  if (mode.dryRun || own === undefined || !joined || own === serverIn(joined)) return;
  const hint = `write it, when it does, into ${kubeconfig} in the place of ${serverIn(joined)}, then: systemctl restart kubelet`;
  const answers = () => whoAnswers(own, ca).then((who) => who === "ours");
  const silent = await failOf(() =>
    waitFor(`${own} to answer with the new CA`, answers, { seconds: STARTS, hint }),
  );
  const content = withTrust(before!, { ca, clientPem });
  if (silent || !content)
    return say(
      `warning: ${kubeconfig} leads to ${serverIn(joined)} now, and led to ${own} before, which does not answer: ${hint}`,
    );
  const trouble = await failOf(() => exchange(node, content));
  if (!trouble) return say(`unchanged server in ${kubeconfig}: ${own}`);
  await exchange(node, joined);
  say(
    `warning: ${kubeconfig} leads to ${serverIn(joined)}: by ${own} the kubelet did not renew its Lease: ${hint}`,
  );
}

/** Errors: Fail where the kubelet does not renew its Lease with it. */
async function exchange(node: Node, content: string) {
  const { kubeconfig } = node.kubelet;
  await systemctlKubelet("stop", " (containers keep running)");
  writeFile(kubeconfig, content, { mode: 0o600 });
  const since = new Date();
  await systemctlKubelet("start");
  const self = KubeApi.from(readKubeconfig(kubeconfig)!);
  const hint = "journalctl -u kubelet -n 50";
  await waitForRenewal(self, node.name, since, { seconds: 60, hint });
}
