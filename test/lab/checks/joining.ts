#!/usr/bin/env bun
import { ANY_WORKER, closeJoining, openJoining, tokenUsers } from "../../../shared/api/bootstrap-tokens.ts";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import type { KnownNode } from "../../../shared/facts/known-node.ts";
/**
 * Part 3's token and its approvals on a real API server and controller-manager: what the token allows, that
 * no rule of the cluster approves its CSRs, that each worker gets one certificate, and that a hardened API
 * (no anonymous requests) works, too.
 */
import { madeAt } from "../../../shared/pki/certificate.ts";
import { run } from "../../../shared/run.ts";
import { waitFor } from "../../../shared/wait-for.ts";
import { type Csr, isPending } from "../../../shared/workers/csr.ts";
import { proveServer } from "../../../shared/workers/saved-trust.ts";
import { waitForNodes } from "../../../shared/workers/wait.ts";
import "reflect-metadata";
import { type Asked, CSRS, clientCsr, dns, privatePem } from "../../pretend/csrs.ts";
import { type ApiLab, apiLab } from "../machine/api-lab.ts";

const RBAC = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
const REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
const NODECLIENT = "system:certificates.k8s.io:certificatesigningrequests:nodeclient";
const LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
const HINT = "see kube-apiserver.log and kube-controller-manager.log";
/** Seconds for anything that has to come: other checks use the CPU, too. */
const PATIENCE = 300;

const node = (name: string, controlPlane = false): KnownNode => ({
  name,
  uid: name,
  controlPlane,
  claimed: { names: [name], ips: [] },
  places: [],
});
const NODES = [node("cp1", true), node("w1"), node("w2"), node("w3")];

let failures = 0;

function check(name: string, ok: boolean, detail: unknown = "") {
  if (!ok) failures++;
  console.log(ok ? `ok: ${name}` : `not ok: ${name}: ${JSON.stringify(detail)}`);
}

async function main() {
  await using lab = await apiLab({ flags: ["--enable-bootstrap-token-auth=true"] });
  await lab.controllerManager();
  // As after kubeadm init: the cluster approves CSRs of kubeadm's tokens by itself.
  await bindApproval(
    lab,
    "kubeadm:node-autoapprove-bootstrap",
    "system:bootstrappers:kubeadm:default-node-token",
  );
  const token = (await openJoining(lab.operator, [ANY_WORKER])).get(ANY_WORKER)!;
  const holder = new KubeApi({ server: lab.server, ca: lab.caPem, token });
  await everybodyAsks(lab, holder);
  await closed(lab, holder);
  await hardened(lab);
  await bindApproval(lab, "approve-csrs-for-group", "system:bootstrappers");
  const refused = await openJoining(lab.operator, [ANY_WORKER]).then(
    () => "",
    (err: Error) => err.message,
  );
  check(
    "open refuses where a rule approves the CSRs of every bootstrap token",
    /A rule of this cluster/.test(refused),
    refused,
  );
  process.exitCode = failures === 0 ? 0 : 1;
}

/** The requests by their names, in the order in which they come. */
const ASKED: [name: string, asked: Asked][] = [
  ["a-cp1", { subject: "O=system:nodes, CN=system:node:cp1" }],
  ["b-masters", { subject: "O=system:masters, CN=kubernetes-admin" }],
  ["c-never", { subject: "O=system:nodes, CN=system:node:w9" }],
  ["d-names", { sans: [dns("w1")] }],
  ["e-w1", {}],
  ["f-w1-again", { more: [] }],
  ["g-left-out", { subject: "O=system:nodes, CN=system:node:w3" }],
  ["h-w2", { subject: "O=system:nodes, CN=system:node:w2" }],
];

async function everybodyAsks(lab: ApiLab, holder: KubeApi) {
  for (const [name, asked] of ASKED) {
    const { metadata, spec } = await clientCsr({ name, ...asked });
    const { signerName, request, usages } = spec;
    await waitFor(
      "the token's holders to be let in",
      () => holder.create(CSRS, { metadata: { name: metadata.name }, spec: { signerName, request, usages } }),
      {
        seconds: PATIENCE,
        hint: HINT,
      },
    );
  }
  const nodesByName = new Map(NODES.map((one) => [one.name, one]));
  const joining = {
    tokenUsers: await tokenUsers(lab.operator),
    nodesByName,
    without: ["w3"],
    renewing: new Set<string>(),
    given: new Map<string, string>(),
  };
  const expected = NODES.filter(({ name }) => name === "w1" || name === "w2");
  const returning = waitForNodes({
    api: lab.operator,
    expected,
    caPem: lab.caPem,
    since: madeAt(lab.caPem),
    serving: false,
    joining,
    seconds: PATIENCE,
    whileTokenLasts: true,
  });
  const kubelets = Promise.all([kubelet(lab, "w1", "e-w1"), kubelet(lab, "w2", "h-w2")]);
  const { away } = await returning;
  await kubelets;
  check("both workers have joined", away.length === 0, away);
  const left = (await lab.admin.list<Csr>(CSRS)).filter(isPending).map(({ metadata }) => metadata.name);
  const wanted = ["a-cp1", "b-masters", "c-never", "d-names", "f-w1-again", "g-left-out"];
  check(
    "nobody has approved the six others, no controller of the cluster either",
    left.join() === wanted.join(),
    left,
  );
}

/** Uses its new certificate to renew its Lease. */
async function kubelet(lab: ApiLab, name: string, request: string) {
  const issued = async () => (await lab.admin.get<Csr>(`${CSRS}/${request}`)).status?.certificate;
  const cert = Buffer.from(
    (await waitFor(`${request} to be issued`, issued, { seconds: PATIENCE, hint: HINT }))!,
    "base64",
  ).toString();
  const own = new KubeApi({ server: lab.server, ca: lab.caPem, cert, key: await privatePem() });
  const renewTime = new Date().toISOString().replace("Z", "000Z");
  await own.create(LEASES, {
    metadata: { name },
    spec: { holderIdentity: name, leaseDurationSeconds: 40, renewTime },
  });
}

async function closed(lab: ApiLab, holder: KubeApi) {
  await closeJoining(lab.operator);
  const { metadata, spec } = await clientCsr({ name: "too-late" });
  const late = async () => {
    const answer = await holder
      .create(CSRS, { metadata: { name: metadata.name }, spec })
      .catch((err: { status?: number }) => err.status);
    return answer === 401;
  };
  const isOut = await waitFor("the token to be refused", late, { seconds: PATIENCE, hint: HINT });
  check("after close the API refuses the token", isOut === true);
  const bindings = (await lab.admin.list(RBAC)).map(({ metadata: { name } }) => name);
  check(
    "after close no object of the kit's is left in the cluster",
    !bindings.some((name) => name.startsWith("kube-pki-repair")),
    bindings,
  );
}

async function hardened(lab: ApiLab) {
  await lab.restartApi((flags) => [...flags, "--anonymous-auth=false"]);
  const stranger = new KubeApi({ server: lab.server, ca: lab.caPem });
  const status = await stranger.get("/version").catch((err: { status?: number }) => err.status);
  check("the API refuses requests without credentials", status === 401, status);
  const proved = await proveServer(lab.server, lab.caPem).then(() => true);
  check("join proves the server all the same", proved);
}

/** Until the API server goes by it: its authorizer watches the bindings. */
async function bindApproval(lab: ApiLab, name: string, group: string) {
  const roleRef = { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: NODECLIENT };
  const subjects = [{ apiGroup: "rbac.authorization.k8s.io", kind: "Group", name: group }];
  await lab.admin.create(RBAC, { metadata: { name }, roleRef, subjects });
  const asked = { resource: "certificatesigningrequests", subresource: "nodeclient", verb: "create" };
  const resourceAttributes = { group: "certificates.k8s.io", ...asked };
  const isAllowed = async () => {
    const review = { spec: { user: "somebody", groups: [group], resourceAttributes } };
    return (await lab.admin.create<{ status: { allowed: boolean } }>(REVIEWS, review)).status.allowed;
  };
  await waitFor(`the rule ${name} to be in force`, isAllowed, { seconds: PATIENCE, hint: HINT });
}

if (import.meta.main) await run(main);
