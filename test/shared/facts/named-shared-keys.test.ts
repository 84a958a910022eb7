/**
 * A file that a flag of a static pod or the kubelet names has the cluster's keys, or others that the cluster trusts on
 * purpose. A stranger's is found at each flag; no cluster of the field has one.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { parse, stringify } from "yaml";
import { lookHere } from "../../../shared/assess/look-here.ts";
import { foreignKeyFlags } from "../../../shared/facts/named-shared-keys.ts";
import { strangeFolder } from "../../../shared/facts/usual-folder.ts";
import { flags } from "../../../shared/manifests/command.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueLeaf } from "../../../shared/pki/issue.ts";
import { FACTS, write } from "../../pretend/cluster.ts";
import { lookAt } from "../../pretend/in-process.ts";
import { DIR, LAYOUTS, type Layout } from "../../pretend/layouts.ts";
import { strangersText } from "../../pretend/strangers-folder.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

/** A certificate that a stranger's CA has signed. */
async function leafOf(name: string, ca: string): Promise<string> {
  const { file } = certRow(ca);
  const pair = { cert: strangersText(`${file}.crt`), key: strangersText(`${file}.key`) };
  return (await issueLeaf(certRow(name), pair, FACTS)).cert;
}

type Change = (root: string) => void;

/** A flag leads to another file, in the folder that the pod mounts, with this text. */
function named(pod: string, flag: string, text: string, layout: Layout = "kubeadm's default"): Change {
  return (root) => {
    const folder = pod === "etcd" ? `${DIR[layout]}/etcd` : DIR[layout];
    const file = `${folder}/own-${flag}`;
    write(root + file, text);
    setFlag(root, pod, flag, file);
  };
}

function setFlag(root: string, pod: string, flag: string, value: string) {
  const path = `${root}/etc/kubernetes/manifests/${pod}.yaml`;
  const manifest = parse(readFileSync(path, "utf8"));
  flags(manifest.spec.containers[0].command).set(flag, value);
  write(path, stringify(manifest));
}

async function found(layout: Layout, ...changes: Change[]): Promise<string[]> {
  return await lookAt(LAYOUTS[layout], async ({ root }) => {
    for (const change of changes) change(root);
    const { node, partialFacts } = await lookHere(undefined);
    return foreignKeyFlags(partialFacts!, node, strangeFolder(partialFacts!, node)).map(
      ({ namedBy }) => namedBy,
    );
  });
}

const [CA, FRONT, ETCD] = ["ca.crt", "front-proxy-ca.crt", "etcd/ca.crt"].map(strangersText);
const [CA_KEY, SA_KEY] = ["ca.key", "sa.key"].map(strangersText);
const [API, MANAGER] = ["kube-apiserver", "kube-controller-manager"];

const STRANGE: [pod: string, flag: string, text: string][] = [
  [API!, "client-ca-file", CA!],
  [API!, "requestheader-client-ca-file", FRONT!],
  [API!, "etcd-cafile", ETCD!],
  ["etcd", "trusted-ca-file", ETCD!],
  [MANAGER!, "root-ca-file", CA!],
  [MANAGER!, "cluster-signing-cert-file", CA!],
  [MANAGER!, "cluster-signing-key-file", CA_KEY!],
  [API!, "service-account-signing-key-file", SA_KEY!],
  [MANAGER!, "service-account-private-key-file", SA_KEY!],
];

test.each(STRANGE)("%s --%s: a stranger's file is found", async (pod, flag, text) => {
  expect(await found("kubeadm's default", named(pod, flag, text))).toEqual([`${pod} --${flag}`]);
});

test.each(["kubespray", "KubeKey", "certificatesDir elsewhere"] as const)(
  "%s: a stranger's client CAs are found",
  async (layout) => {
    const change = named(API!, "client-ca-file", CA!, layout);
    expect(await found(layout, change)).toEqual(["kube-apiserver --client-ca-file"]);
  },
);

test("keys that check tokens, none of which is of the one that signs, are found at both signers", async () => {
  const change = named(API!, "service-account-key-file", strangersText("sa.pub"));
  expect(await found("kubeadm's default", change)).toEqual([
    "kube-apiserver --service-account-signing-key-file",
    "kube-controller-manager --service-account-private-key-file",
  ]);
});

test("the kubelet's clientCAFile of a stranger is found", async () => {
  const change: Change = (root) => {
    write(`${root}/etc/kubernetes/kubelet-ca.crt`, CA!);
    const path = `${root}/var/lib/kubelet/config.yaml`;
    const config = parse(readFileSync(path, "utf8"));
    config.authentication.x509.clientCAFile = "/etc/kubernetes/kubelet-ca.crt";
    write(path, stringify(config));
  };
  expect(await found("kubeadm's default", change)).toEqual(["the kubelet's clientCAFile"]);
});

const ownText = (root: string, file: string) => readFileSync(`${root}/etc/kubernetes/pki/${file}`, "utf8");
const both = (pod: string, flag: string, ...files: string[]): Change => {
  return (root) =>
    named(pod, flag, files.map((file) => strangersText(file) + ownText(root, file)).join(""))(root);
};

/** Clusters that are well. */
test.each<[string, ...Change[]]>([
  ["clients are trusted by both CAs", both(API!, "client-ca-file", "ca.crt")],
  ["pods are told both CAs", both(MANAGER!, "root-ca-file", "ca.crt")],
  ["etcd trusts both CAs", both("etcd", "trusted-ca-file", "etcd/ca.crt")],
  [
    "an old service-account key is accepted beside the new one",
    both(API!, "service-account-key-file", "sa.pub"),
  ],
  [
    "tokens are signed and checked by a pair of another name",
    named(API!, "service-account-key-file", strangersText("sa.pub")),
    named(API!, "service-account-signing-key-file", SA_KEY!),
    named(MANAGER!, "service-account-private-key-file", SA_KEY!),
  ],
  [
    "the CSRs' signer is a CA of its own, which the API server accepts",
    both(API!, "client-ca-file", "ca.crt"),
    named(MANAGER!, "cluster-signing-cert-file", CA!),
    named(MANAGER!, "cluster-signing-key-file", CA_KEY!),
  ],
  [
    "the aggregation layer has a CA of another name, which has signed the API server's certificate for it",
    named(API!, "requestheader-client-ca-file", FRONT!),
    named(API!, "proxy-client-cert-file", await leafOf("front-proxy-client", "front-proxy-ca")),
  ],
  ["a file that holds no certificate", named(API!, "client-ca-file", "nonsense")],
])("well: %s", async (_, ...changes) => {
  expect(await found("kubeadm's default", ...changes)).toEqual([]);
});
