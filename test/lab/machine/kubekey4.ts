/**
 * KubeKey 4's layout, in our own words (reference/systemd-etcd.md, chapter 4): kubeadm's own paths and unit; etcd beside
 * it under names of its nodes, each with one certificate without usages; the API server's pair is below /etc/kubernetes,
 * and the key of etcd's CA on the installer's machine alone. The API has a name that only /etc/hosts knows.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ETCD_UNIT, etcdEnv, SSL } from "./kubespray.ts";
import { addressOf } from "./layout.ts";
import { type Profile, USUAL } from "./profile.ts";
import { sh } from "./shell.ts";

const NAME = "lb.kubesphere.local";
const UNITS = "/etc/systemd/system";
export const PAIR = ["ca.crt", "client.crt", "client.key"].map((name) => `/etc/kubernetes/pki/etcd/${name}`);
export const OWN = ["ca.crt", "server.crt", "server.key"].map((name) => `${SSL}/${name}`);

/** `keep` is given the key of etcd's CA, which stays on the installer's machine. */
export async function kubekey4({
  controlPlanes = 1,
  days = 3650,
  keep,
}: {
  controlPlanes?: number;
  /** How long etcd's certificates are valid. */
  days?: number;
  keep?: (key: string) => void;
} = {}): Promise<Profile> {
  const nodes = Array.from({ length: controlPlanes }, (_, i) => addressOf(`cp${i + 1}`));
  const pki = await etcdsPki(nodes, days);
  keep?.(pki("ca.key"));
  const [caFile, certFile, keyFile] = PAIR as [string, string, string];
  const first = nodes[0]!;
  const put = (path: string, text: string) => `cat > ${path} <<'END'\n${text}END`;
  return {
    ...USUAL,
    clusterConfiguration: {
      clusterName: "cluster.local",
      controlPlaneEndpoint: `${NAME}:6443`,
      etcd: {
        external: { endpoints: nodes.map(({ ip }) => `https://${ip}:2379`), caFile, certFile, keyFile },
      },
    },
    // the lab itself asks by lab-api
    certSANs: [NAME, "lab-api", "localhost", "127.0.0.1"],
    controlPlaneFiles: {
      ...USUAL.controlPlaneFiles,
      [caFile]: pki("ca.crt"),
      [certFile]: pki(`${first.name}.crt`),
      [keyFile]: pki(`${first.name}.key`),
      [`${UNITS}/etcd.service`]: ETCD_UNIT,
    },
    beforeKubeadm: [
      [
        /./,
        `echo '${first.ip} ${NAME}' >> /etc/hosts
echo "Environment=\\"KUBELET_EXTRA_ARGS=--node-ip=$IP --hostname-override=$NAME\\"" >> ${UNITS}/kubelet.service.d/10-kubeadm.conf; systemctl daemon-reload`,
      ],
      ...nodes.map(({ name }): Profile["beforeKubeadm"][number] => [
        new RegExp(`^${name}$`),
        [
          `umask 077; mkdir -p ${SSL}`,
          ...OWN.map((path, i) => put(path, pki(["ca.crt", `${name}.crt`, `${name}.key`][i]!))),
          `chmod 644 ${SSL}/*.crt`,
        ].join("\n"),
      ]),
      [/^cp/, etcdEnv(nodes, { nameOf: (name) => name, own: OWN })],
      [/^cp/, "systemctl daemon-reload\nsystemctl enable --quiet --now etcd"],
    ],
  };
}

/** Each node's certificate is for itself, and has no usages. */
async function etcdsPki(
  nodes: readonly { name: string; ip: string }[],
  days: number,
): Promise<(file: string) => string> {
  const folder = mkdtempSync(join(tmpdir(), "etcd-pki-"));
  const leaf = ({ name, ip }: { name: string; ip: string }) => `
printf '%s\\n' 'basicConstraints=CA:FALSE' 'keyUsage=digitalSignature,keyEncipherment' 'subjectAltName=DNS:localhost,DNS:${name},IP:127.0.0.1,IP:${ip}' > ext
openssl req -new -newkey rsa:2048 -nodes -keyout ${name}.key -subj /O=kubekey/CN=etcd -out csr 2>/dev/null
openssl x509 -req -in csr -CA ca.crt -CAkey ca.key -CAcreateserial -days ${days} -sha256 -extfile ext -out ${name}.crt 2>/dev/null`;
  const script = `set -e
openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -keyout ca.key -out ca.crt -subj /O=kubekey/CN=root 2>/dev/null
${nodes.map(leaf).join("\n")}`;
  try {
    await sh(["bash", "-c", script], { cwd: folder });
    const names = ["ca.crt", "ca.key", ...nodes.flatMap(({ name }) => [`${name}.crt`, `${name}.key`])];
    const read = new Map(names.map((name) => [name, readFileSync(join(folder, name), "utf8")]));
    return (name) => read.get(name)!;
  } finally {
    rmSync(folder, { recursive: true });
  }
}
