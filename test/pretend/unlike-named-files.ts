/** Rows of unlike.ts: files that flags of the API server name. Lost, they are refused by name: only copies bring them back. */
import { write } from "./cluster.ts";
import type { Unlike } from "./unlike.ts";
import { mount, setFlags } from "./unlike-edits.ts";
import { staticPod } from "./unlike-host.ts";

const FOLDER = "/etc/kubernetes/own";

/** A flag of the API server that names a file of this content. */
function named(name: string, who: string, flag: string, file: string, content: string): Unlike {
  return {
    ...{ name, who },
    change: (place) => {
      write(`${place.root}${FOLDER}/${file}`, content, 0o644);
      setFlags(place, "kube-apiserver", `--${flag}=${FOLDER}/${file}`);
      mount(place, "kube-apiserver", FOLDER);
    },
    lost: { refuses: ["01-etcd --new-cas", new RegExp(file.replace(".", "\\."))] },
  };
}

const kind = (group: string, name: string, rest: string) => `apiVersion: ${group}\nkind: ${name}\n${rest}\n`;

export const NAMED_FILES: Unlike[] = [
  named(
    "authentication is in a file",
    "structured authentication, since 1.30",
    ...(["authentication-config", "authentication.yaml"] as const),
    kind("apiserver.config.k8s.io/v1", "AuthenticationConfiguration", "jwt: []"),
  ),
  named(
    "authorization is in a file",
    "structured authorization, since 1.30",
    ...(["authorization-config", "authorization.yaml"] as const),
    kind(
      "apiserver.config.k8s.io/v1",
      "AuthorizationConfiguration",
      "authorizers: [{type: Node, name: node}, {type: RBAC, name: rbac}]",
    ),
  ),
  named(
    "admission has a file: PodSecurity for the whole cluster",
    "Pod Security Standards by default",
    ...(["admission-control-config-file", "admission.yaml"] as const),
    kind("apiserver.config.k8s.io/v1", "AdmissionConfiguration", "plugins: []"),
  ),
  named(
    "requests are traced",
    "OpenTelemetry: --tracing-config-file",
    ...(["tracing-config-file", "tracing.yaml"] as const),
    kind("apiserver.config.k8s.io/v1", "TracingConfiguration", "endpoint: localhost:4317"),
  ),
  {
    name: "Secrets are encrypted by a KMS plugin that is a static pod",
    who: "KMS v2: Vault, AWS, Thales",
    change: (place) => {
      write(
        `${place.root}${FOLDER}/kms.yaml`,
        kind(
          "apiserver.config.k8s.io/v1",
          "EncryptionConfiguration",
          "resources: [{resources: [secrets], providers: [{kms: {apiVersion: v2, name: vault, endpoint: 'unix:///var/run/kms/kms.sock'}}, {identity: {}}]}]",
        ),
      );
      setFlags(place, "kube-apiserver", `--encryption-provider-config=${FOLDER}/kms.yaml`);
      mount(place, "kube-apiserver", FOLDER);
      mount(place, "kube-apiserver", "/var/run/kms");
      write(`${place.root}/var/run/kms/kms.sock`, "");
      write(`${place.root}/etc/vault-kms/config`, "own\n", 0o644);
      staticPod(place, "vault-kms", "/etc/vault-kms/config");
    },
    lost: { refuses: ["01-etcd --new-cas", /kms\.yaml/] },
  },
  {
    name: "konnectivity's server is a static pod, and the API server reaches nodes through its socket",
    who: "edge and hosted control planes",
    change: (place) => {
      write(
        `${place.root}${FOLDER}/egress.yaml`,
        kind(
          "apiserver.k8s.io/v1beta1",
          "EgressSelectorConfiguration",
          "egressSelections: [{name: cluster, connection: {proxyProtocol: GRPC, transport: {uds: {udsName: /var/run/konnectivity/s.sock}}}}]",
        ),
        0o644,
      );
      setFlags(place, "kube-apiserver", `--egress-selector-config-file=${FOLDER}/egress.yaml`);
      mount(place, "kube-apiserver", FOLDER);
      mount(place, "kube-apiserver", "/var/run/konnectivity");
      write(`${place.root}/var/run/konnectivity/s.sock`, "");
      write(`${place.root}/etc/konnectivity/config`, "own\n", 0o644);
      staticPod(place, "konnectivity-server", "/etc/konnectivity/config");
    },
    lost: { refuses: ["01-etcd --new-cas", /egress\.yaml/] },
  },
];
