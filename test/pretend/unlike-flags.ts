/** Rows of unlike.ts: flags of the control plane's components, and files that they name. */
import { certRow } from "../../shared/pki/certs.ts";
import { issueLeaf } from "../../shared/pki/issue.ts";
import { ADDRESS, FACTS, write } from "./cluster.ts";
import { type Unlike, USUAL } from "./unlike.ts";
import { editPod, mount, PKI, remove, setFlags } from "./unlike-edits.ts";

const CONFIG = "/etc/kubernetes/config";

export const FLAGS: Unlike[] = [
  {
    name: USUAL,
    who: "kubeadm init",
    change: () => undefined,
  },
  {
    name: "the API server accepts no anonymous requests",
    who: "CIS benchmark 1.2.1; kubespray's kube_api_anonymous_auth: false",
    change: (place) => setFlags(place, "kube-apiserver", "--anonymous-auth=false"),
  },
  {
    name: "TLS 1.3 alone, profiling off, audit logs that rotate, the kubelets' certificates checked by the cluster's CA",
    who: "CIS benchmark 1.2 and 1.3, STIG",
    change: (place) => {
      for (const name of ["kube-apiserver", "kube-controller-manager", "kube-scheduler"])
        setFlags(place, name, "--profiling=false", "--tls-min-version=VersionTLS13");
      setFlags(
        place,
        "kube-apiserver",
        "--kubelet-certificate-authority=/etc/kubernetes/pki/ca.crt",
        "--audit-log-maxage=30",
      );
      setFlags(
        place,
        "kube-apiserver",
        "--audit-log-maxbackup=10",
        "--audit-log-maxsize=100",
        "--request-timeout=300s",
      );
      setFlags(
        place,
        "kube-controller-manager",
        "--terminated-pod-gc-threshold=10",
        "--bind-address=127.0.0.1",
      );
    },
  },
  {
    name: "the API server authorizes by RBAC alone, and NodeRestriction is off",
    who: "clusters made before 1.8; own manifests",
    change: (place) =>
      setFlags(place, "kube-apiserver", "--authorization-mode=RBAC", "--enable-admission-plugins="),
  },
  {
    name: "the API server listens at one address of the node",
    who: "kubespray's kube_apiserver_bind_address",
    change: (place) => setFlags(place, "kube-apiserver", `--bind-address=${ADDRESS}`),
  },
  {
    name: "a second issuer and an audience of tokens, and the address of their published keys",
    who: "IRSA and workload identity: kops, eksctl anywhere, own S3 buckets",
    change: (place) =>
      editPod(
        place,
        "kube-apiserver",
        ({ containers }) =>
          void containers[0]!.command!.push(
            "--service-account-issuer=https://oidc.example.com/cluster",
            "--service-account-jwks-uri=https://oidc.example.com/cluster/openid/v1/jwks",
            "--api-audiences=https://kubernetes.default.svc.cluster.local,sts.amazonaws.com",
          ),
      ),
  },
  {
    name: "the scheduler has a configuration file of its own",
    who: "bin packing, GPU and batch set-ups; kubespray's kube_scheduler_profiles",
    change: (place) => {
      const kubeconfig = "/etc/kubernetes/scheduler.conf";
      const content = `apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nclientConnection: {kubeconfig: ${kubeconfig}}\n`;
      write(`${place.root}${CONFIG}/scheduler.yaml`, content, 0o644);
      setFlags(place, "kube-scheduler", `--config=${CONFIG}/scheduler.yaml`, "--kubeconfig=");
      mount(place, "kube-scheduler", CONFIG);
    },
  },
  {
    name: "the controller-manager's controllers are given by hand",
    who: "external cloud providers, -nodeipam, -ttl; kops",
    change: (place) =>
      setFlags(
        place,
        "kube-controller-manager",
        "--controllers=*,bootstrapsigner,tokencleaner,-nodeipam,-ttl",
      ),
  },
  {
    name: "etcd serves metrics to others, has a larger quota and compacts by itself",
    who: "kube-prometheus's advice; kubespray's etcd_metrics_service and etcd_quota_backend_bytes",
    change: (place) =>
      setFlags(
        place,
        "etcd",
        "--listen-metrics-urls=http://0.0.0.0:2381",
        "--quota-backend-bytes=8589934592",
        "--auto-compaction-retention=8",
        "--cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
      ),
  },
  {
    name: "Secrets are encrypted by secretbox",
    who: "kubespray's kube_encrypt_secret_data; CIS 1.2.27",
    change: (place) => {
      write(
        `${place.root}${CONFIG}/encryption.yaml`,
        "kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources: []\n",
      );
      setFlags(place, "kube-apiserver", `--encryption-provider-config=${CONFIG}/encryption.yaml`);
      mount(place, "kube-apiserver", CONFIG);
      place.objects["secrets/shop/password"] = "k8s:enc:secretbox:v1:key1:\u0001";
    },
    lost: { refuses: ["01-etcd --new-cas", /encryption\.yaml/] },
  },
  {
    name: "the API server sends its audit log to a webhook, and reaches nodes through konnectivity",
    who: "managed and edge set-ups; Falco's and Sysdig's manuals",
    change: (place) => {
      write(
        `${place.root}${CONFIG}/audit-webhook.yaml`,
        "apiVersion: v1\nkind: Config\nclusters: [{name: a, cluster: {server: 'http://127.0.0.1:9765'}}]\n",
      );
      write(
        `${place.root}${CONFIG}/egress.yaml`,
        "apiVersion: apiserver.k8s.io/v1beta1\nkind: EgressSelectorConfiguration\negressSelections: []\n",
      );
      setFlags(
        place,
        "kube-apiserver",
        `--audit-webhook-config-file=${CONFIG}/audit-webhook.yaml`,
        `--egress-selector-config-file=${CONFIG}/egress.yaml`,
      );
      mount(place, "kube-apiserver", CONFIG);
    },
    lost: { refuses: ["01-etcd --new-cas", /egress\.yaml/] },
  },
  {
    name: "the API server takes people from an OIDC provider with a CA of its own",
    who: "Dex, Keycloak; kubespray's kube_oidc_auth",
    change: (place) => {
      write(
        `${place.root}/etc/kubernetes/ssl/oidc-ca.pem`,
        "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n",
        0o644,
      );
      setFlags(
        place,
        "kube-apiserver",
        "--oidc-issuer-url=https://dex.example.com",
        "--oidc-client-id=kubernetes",
        "--oidc-ca-file=/etc/kubernetes/ssl/oidc-ca.pem",
      );
      mount(place, "kube-apiserver", "/etc/kubernetes/ssl");
    },
    lost: { refuses: ["01-etcd --new-cas", /oidc-ca\.pem/] },
  },
  {
    name: "a sidecar runs in the API server's pod",
    who: "KMS plugins (aws-encryption-provider, Vault), konnectivity-server; GKE and EKS-D set-ups",
    change: (place) =>
      editPod(
        place,
        "kube-apiserver",
        ({ containers }) =>
          void containers.push({
            name: "kms",
            image: "registry.example/kms:v1",
            command: ["/kms", "--health-port=:8083"],
          }),
      ),
  },
  {
    name: "the flags are the container's args, its command is the program alone",
    who: "RKE2, Talos and own manifests",
    change: (place) => {
      for (const name of ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"])
        editPod(place, name, ({ containers: [container] }) => {
          const [program, ...args] = container!.command!;
          Object.assign(container!, { command: [program], args });
        });
    },
  },
  {
    name: "leaders are elected by Leases of another name",
    who: "two schedulers of one kind; own manifests",
    change: (place) => {
      setFlags(place, "kube-scheduler", "--leader-elect-resource-name=own-scheduler");
      const lease = place.objects["leases/kube-system/kube-scheduler"] as { metadata: { name: string } };
      delete place.objects["leases/kube-system/kube-scheduler"];
      place.objects["leases/kube-system/own-scheduler"] = {
        ...lease,
        metadata: { ...lease.metadata, name: "own-scheduler" },
      };
    },
  },
  {
    name: "leaders are not elected: there is one control plane node",
    who: "own manifests with --leader-elect=false",
    change: (place) => {
      for (const name of ["kube-controller-manager", "kube-scheduler"]) {
        setFlags(place, name, "--leader-elect=false");
        delete place.objects[`leases/kube-system/${name}`];
      }
    },
  },
  {
    name: "every value of a flag stands in a word of its own",
    who: "own manifests, Helm charts of control planes: --secure-port 6443",
    change: (place) =>
      editPod(place, "kube-scheduler", ({ containers: [container] }) => {
        container!.command = container!.command!.flatMap((word) => word.split(/=(.*)/s).filter(Boolean));
      }),
  },
  {
    name: "sa.key checks tokens itself: --service-account-key-file names the private key",
    who: "kubespray before 2.9 and The Hard Way: one file for both",
    change: (place) => setFlags(place, "kube-apiserver", `--service-account-key-file=${PKI}/sa.key`),
  },
  {
    name: "sa.key checks tokens itself, and sa.pub is not there",
    who: "one key file for both: nothing but a flag that names it needs sa.pub",
    change: (place) => {
      setFlags(place, "kube-apiserver", `--service-account-key-file=${PKI}/sa.key`);
      remove(place, `${PKI}/sa.pub`);
    },
    says: /sa\.pub is not here, and no flag names it/,
  },
  {
    name: "the API server has memory limits, a host alias and another DNS policy by patches",
    who: "kubeadm's --patches: resources, hostAliases, dnsPolicy",
    change: (place) =>
      editPod(place, "kube-apiserver", (spec) => {
        spec.containers[0]!.resources = { requests: { cpu: "2" }, limits: { memory: "16Gi" } };
        Object.assign(spec, {
          hostAliases: [{ ip: "203.0.113.7", hostnames: ["oidc.example.com"] }],
          dnsPolicy: "ClusterFirstWithHostNet",
        });
      }),
  },
  {
    name: "a cloud's controllers run outside: the controller-manager knows an external provider and allocates no ranges",
    who: "AWS, OpenStack, vSphere: --cloud-provider=external",
    change: (place) =>
      setFlags(
        place,
        "kube-controller-manager",
        "--cloud-provider=external",
        "--allocate-node-cidrs=false",
        "--configure-cloud-routes=false",
      ),
  },
  {
    name: "the controller-manager signs certificates of a month",
    who: "security teams: --cluster-signing-duration",
    change: (place) => setFlags(place, "kube-controller-manager", "--cluster-signing-duration=720h"),
  },
  {
    name: "the controller-manager and the scheduler show certificates of their own",
    who: "CIS 1.3.6 and monitoring: --tls-cert-file, --authentication-kubeconfig elsewhere",
    change: async (place) => {
      for (const name of ["controller-manager", "scheduler"]) {
        const pair = await issueLeaf(certRow("apiserver"), place.ca, FACTS);
        write(`${place.root}${PKI}/${name}.crt`, pair.cert, 0o644);
        write(`${place.root}${PKI}/${name}.key`, pair.key);
        setFlags(
          place,
          `kube-${name}`,
          `--tls-cert-file=${PKI}/${name}.crt`,
          `--tls-private-key-file=${PKI}/${name}.key`,
        );
        if (name === "scheduler") mount(place, "kube-scheduler", PKI);
      }
    },
    lost: { refuses: ["01-etcd --new-cas", /controller-manager\.crt/] },
  },
];
