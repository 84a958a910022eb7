/**
 * What a busy cluster has that no script can restart, or only in its own way. Two namespaces: the webhook's,
 * and the one it looks at.
 */
import { certRow } from "../../../shared/pki/certs.ts";
import { issueCa, issueLeaf } from "../../../shared/pki/issue.ts";
import { testFacts } from "../../pretend/facts.ts";

export const [BUSY, POLICY] = ["busy", "policy"];

const FACTS = testFacts({});

const base64 = (text: string) => Buffer.from(text).toString("base64");

/** A pod's template: one container that does nothing, or what `args` say. */
function template(app: string, container: object = { args: ["sleep"] }, volumes: object[] = []) {
  const containers = [{ name: app, image: "lab/workload:1", ...container }];
  return { metadata: { labels: { app } }, spec: { terminationGracePeriodSeconds: 1, containers, volumes } };
}

function workload(kind: string, name: string, spec: object = {}, namespace = BUSY) {
  const selector = { matchLabels: { app: name } };
  return {
    apiVersion: "apps/v1",
    kind,
    metadata: { name, namespace },
    spec: { selector, template: template(name), ...spec },
  };
}

export function busyObjects(): object[] {
  const [minimum, selector] = [{ maxUnavailable: 0 }, { matchLabels: { app: "guarded" } }];
  return [
    { apiVersion: "v1", kind: "Namespace", metadata: { name: BUSY } },
    workload("Deployment", "paused"),
    workload("StatefulSet", "split", {
      ...{ serviceName: "split", replicas: 2, podManagementPolicy: "Parallel" },
      updateStrategy: { type: "RollingUpdate", rollingUpdate: { partition: 1 } },
    }),
    workload("ReplicaSet", "guarded", { replicas: 1 }),
    {
      apiVersion: "policy/v1",
      kind: "PodDisruptionBudget",
      metadata: { name: "guarded", namespace: BUSY },
      spec: { ...minimum, selector },
    },
    workload("Deployment", "looked-at"),
    { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "workflow", namespace: BUSY } },
  ];
}

/** A pod that runs to its end, of a controller that is not Kubernetes' own. */
export function task(uid: string): object {
  const owner = { apiVersion: "v1", kind: "ConfigMap", name: "workflow", uid, controller: true };
  const { metadata, spec } = template("task");
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { ...metadata, name: "task", namespace: BUSY, ownerReferences: [owner] },
    spec: { ...spec, restartPolicy: "Never" },
  };
}

/**
 * A webhook with failurePolicy Fail for pods and ConfigMaps of BUSY. It needs the API, and trusts what it
 * read when it started.
 */
export async function webhook(): Promise<{ server: object[]; configuration: object }> {
  const ca = await issueCa(certRow("front-proxy-ca"), FACTS);
  const row = { ...certRow("etcd-server"), names: () => ({ dns: [`hook.${POLICY}.svc`], ips: [] }) };
  const { cert, key } = await issueLeaf(row, ca, FACTS);
  const namespace = POLICY;
  const container = { args: ["hook", "/tls"], volumeMounts: [{ name: "tls", mountPath: "/tls" }] };
  const volumes = [{ name: "tls", secret: { secretName: "hook-tls" } }];
  const rules = [
    {
      apiGroups: [""],
      apiVersions: ["v1"],
      operations: ["CREATE", "UPDATE"],
      resources: ["pods", "configmaps"],
    },
  ];
  return {
    server: [
      { apiVersion: "v1", kind: "Namespace", metadata: { name: POLICY } },
      {
        apiVersion: "v1",
        kind: "Secret",
        metadata: { name: "hook-tls", namespace },
        data: { "tls.crt": base64(cert), "tls.key": base64(key) },
      },
      {
        ...{
          apiVersion: "rbac.authorization.k8s.io/v1",
          kind: "RoleBinding",
          metadata: { name: "hook", namespace },
        },
        roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "view" },
        subjects: [{ kind: "ServiceAccount", name: "default", namespace }],
      },
      workload("Deployment", "hook", { template: template("hook", container, volumes) }, POLICY),
      {
        ...{ apiVersion: "v1", kind: "Service", metadata: { name: "hook", namespace } },
        spec: { selector: { app: "hook" }, ports: [{ port: 443, targetPort: 8443 }] },
      },
    ],
    configuration: {
      apiVersion: "admissionregistration.k8s.io/v1",
      kind: "ValidatingWebhookConfiguration",
      metadata: { name: "hook" },
      webhooks: [
        {
          ...{
            name: "hook.policy.example",
            failurePolicy: "Fail",
            sideEffects: "None",
            admissionReviewVersions: ["v1"],
            timeoutSeconds: 5,
            rules,
          },
          namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": BUSY } },
          clientConfig: { service: { namespace, name: "hook" }, caBundle: base64(ca.cert) },
        },
      ],
    },
  };
}
