/**
 * An API server with its etcd, and on request a controller-manager, on this machine's loopback, without
 * nodes: for checks that need a real API and no kubelet. The kit makes its keys. All its files are in one
 * folder below /tmp, which is removed at the end.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import { CERTS, type ClusterFacts, type KeyAlgorithm } from "../../../shared/pki/certs.ts";
import { ensureMany } from "../../../shared/pki/ensure.ts";
import { issueClient, type Pair } from "../../../shared/pki/issue.ts";
import { kubeconfigRow, kubeconfigText } from "../../../shared/pki/kubeconfigs.ts";
import { waitFor } from "../../../shared/wait-for.ts";
import { testFacts } from "../../pretend/facts.ts";
import { binaries } from "./binaries.ts";
import { etcdFlags } from "./loopback-etcd.ts";
import { freePort, type Started, startProgram } from "./program.ts";

export interface ApiLab extends AsyncDisposable {
  folder: string;
  server: string;
  caPem: string;
  saKey: string;
  saPub: string;
  /** As cluster-admin, past every queue (system:masters). */
  admin: KubeApi;
  /** As the operator's admin.conf since 1.29: the group kubeadm:cluster-admins, bound to cluster-admin. */
  operator: KubeApi;
  operatorPair: Pair;
  apiserver: Started;
  /** All of its programs, in the order in which they were started. */
  started: readonly Started[];
  /** A kubeconfig of the operator's, for kubectl. */
  kubeconfig: string;
  programs: Map<string, string>;
  /** A client with a certificate of its own, and headers of its own, such as those that impersonate. */
  client(user: { cn: string; o?: string }, headers?: Record<string, string>): Promise<KubeApi>;
  /**
   * Ends the API server and starts it again, with its flags changed by `change`, and waits until it is ready.
   */
  restartApi(change?: (flags: string[]) => string[]): Promise<void>;
  /** Starts a controller-manager with kubeadm's flags, changed by `change`, and waits until it leads. */
  controllerManager(change?: (command: string[]) => string[]): Promise<Started>;
}

/** How long a program may take to come up, in seconds: other checks have the CPU too. */
const START = 300;

/** Starts etcd and the API server. Errors: Fail with the last lines of a program that does not come up. */
export async function apiLab(
  options: { keyAlgorithm?: KeyAlgorithm; flags?: string[] } = {},
): Promise<ApiLab> {
  const folder = mkdtempSync(join(tmpdir(), "api-lab-"));
  const [etcdPort, peerPort, port] = [freePort(), freePort(), freePort()];
  const facts = testFacts({
    nodeName: "api-lab",
    advertiseAddress: "127.0.0.1",
    bindPort: port,
    controlPlaneEndpoint: undefined,
    keyAlgorithm: options.keyAlgorithm ?? "RSA-2048",
    certificatesDir: join(folder, "pki"),
  });
  const programs = await binaries();
  await makePki(facts);
  const pki = (file: string) => readFileSync(join(facts.certificatesDir, file), "utf8");
  const ca: Pair = { cert: pki("ca.crt"), key: pki("ca.key") };
  const server = `https://127.0.0.1:${port}`;

  const started: Started[] = [];
  const start = async (name: string, flags: string[]) => {
    const program = startProgram(name, [programs.get(name)!, ...flags], join(folder, `${name}.log`));
    started.push(program);
    return program;
  };
  const client = async (user: { cn: string; o?: string }, headers: Record<string, string> = {}) => {
    const { cert, key } = await issueClient(user, ca, facts);
    return new KubeApi({ server, ca: ca.cert, cert, key, headers });
  };
  const stop = async () => {
    for (const program of started.toReversed()) await program.stop();
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    await start(
      "etcd",
      etcdFlags(join(folder, "etcd"), `http://127.0.0.1:${etcdPort}`, `http://127.0.0.1:${peerPort}`),
    );
    const flags = [...apiserverFlags(facts, etcdPort), ...(options.flags ?? [])];
    let apiserver = await start("kube-apiserver", flags);
    const admin = await client({ cn: "api-lab-admin", o: "system:masters" });
    await apiserver.until("the API server to be ready", () => admin.ready(), START);
    await bindAdmins(admin);
    const user = await issueClient({ cn: "kubernetes-admin", o: "kubeadm:cluster-admins" }, ca, facts);
    const kubeconfig = join(folder, "admin.conf");
    writeFileSync(kubeconfig, kubeconfigText(kubeconfigRow("admin"), facts, { ca: ca.cert, user }), {
      mode: 0o600,
    });
    return {
      folder,
      server,
      caPem: ca.cert,
      saKey: pki("sa.key"),
      saPub: pki("sa.pub"),
      admin,
      operator: new KubeApi({ server, ca: ca.cert, ...user }),
      operatorPair: user,
      get apiserver() {
        return apiserver;
      },
      started,
      restartApi: async (change = (same) => same) => {
        await apiserver.stop();
        apiserver = await start("kube-apiserver", change(flags));
        await apiserver.until("the API server to be ready", () => admin.ready(), START);
      },
      kubeconfig,
      programs,
      client,
      controllerManager: async (change = (command) => command) => {
        const row = kubeconfigRow("controller-manager");
        const manager = await issueClient({ cn: "system:kube-controller-manager" }, ca, facts);
        const conf = join(folder, "controller-manager.conf");
        writeFileSync(conf, kubeconfigText(row, facts, { ca: ca.cert, user: manager }), { mode: 0o600 });
        const [, ...flags] = change(["kube-controller-manager", ...managerFlags(facts, conf)]);
        const program = await start("kube-controller-manager", [
          ...flags,
          `--secure-port=${freePort()}`,
          "--bind-address=127.0.0.1",
        ]);
        const lease = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-controller-manager";
        await program.until(
          "the controller-manager to lead",
          async () => (await admin.find(lease)) !== undefined,
          START,
        );
        return program;
      },
      [Symbol.asyncDispose]: stop,
    };
  } catch (err) {
    await stop();
    throw err;
  }
}

/** Our PKI, as parts 1 and 2 of the runbook make it; its output is not shown. */
async function makePki(facts: ClusterFacts) {
  mkdirSync(facts.certificatesDir, { recursive: true, mode: 0o700 });
  const { error } = console;
  console.error = () => {};
  try {
    await ensureMany({ certs: CERTS, serviceAccountKey: true }, facts, {
      asideDir: join(facts.certificatesDir, "aside"),
      newCas: "all",
    });
  } finally {
    console.error = error;
  }
}

function apiserverFlags(
  { certificatesDir: pki, bindPort, serviceSubnets }: ClusterFacts,
  etcdPort: number,
): string[] {
  return [
    `--etcd-servers=http://127.0.0.1:${etcdPort}`,
    "--bind-address=127.0.0.1",
    "--advertise-address=127.0.0.1",
    `--secure-port=${bindPort}`,
    "--endpoint-reconciler-type=none",
    "--authorization-mode=Node,RBAC",
    "--enable-admission-plugins=NodeRestriction",
    `--client-ca-file=${pki}/ca.crt`,
    `--tls-cert-file=${pki}/apiserver.crt`,
    `--tls-private-key-file=${pki}/apiserver.key`,
    `--service-account-key-file=${pki}/sa.pub`,
    `--service-account-signing-key-file=${pki}/sa.key`,
    "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
    `--service-cluster-ip-range=${serviceSubnets[0]}`,
  ];
}

/** kubeadm's (app/phases/controlplane/manifests.go), as far as they matter without nodes. */
function managerFlags({ certificatesDir: pki }: ClusterFacts, conf: string): string[] {
  return [
    `--authentication-kubeconfig=${conf}`,
    `--authorization-kubeconfig=${conf}`,
    `--client-ca-file=${pki}/ca.crt`,
    `--cluster-signing-cert-file=${pki}/ca.crt`,
    `--cluster-signing-key-file=${pki}/ca.key`,
    "--controllers=*,bootstrapsigner,tokencleaner",
    `--kubeconfig=${conf}`,
    "--leader-elect=true",
    `--root-ca-file=${pki}/ca.crt`,
    `--service-account-private-key-file=${pki}/sa.key`,
    "--use-service-account-credentials=true",
  ];
}

async function bindAdmins(admin: KubeApi) {
  const path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
  const roleRef = { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "cluster-admin" };
  const subjects = [{ apiGroup: "rbac.authorization.k8s.io", kind: "Group", name: "kubeadm:cluster-admins" }];
  await waitFor(
    "the operator's ClusterRoleBinding",
    () => admin.create(path, { metadata: { name: "kubeadm:cluster-admins" }, roleRef, subjects }),
    {
      seconds: START,
      hint: "see kube-apiserver.log",
    },
  );
}
