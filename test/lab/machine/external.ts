/**
 * A control plane whose etcd is on hosts of its own, by kubeadm's guide "external etcd": here they are the machines of
 * the workers. The API server's pair is below /etc/kubernetes, and the key of etcd's CA on the etcd hosts alone.
 */
import { ETCD_UNIT, etcdEnv, etcdsPki, SSL } from "./kubespray.ts";
import { addressOf } from "./layout.ts";
import { type Profile, USUAL } from "./profile.ts";

/** On the etcd hosts, by kubeadm's names. */
export const ETCD_PKI = "/etc/etcd/pki";
export const HOSTS = ["w1", "w2"];

/** `days`: how long etcd's certificates, and the API server's for it, are valid. */
export async function external({ days = 36500 } = {}): Promise<Profile> {
  const hosts = HOSTS.map((name) => addressOf(name));
  const made = await etcdsPki(hosts, days);
  const pem = (name: string) => made[`${SSL}/${name}.pem`]!;
  const [caFile, certFile, keyFile] = [
    "etcd/ca.crt",
    "apiserver-etcd-client.crt",
    "apiserver-etcd-client.key",
  ].map((name) => `/etc/kubernetes/pki/${name}`) as [string, string, string];
  const first = hosts[0]!.name;
  const endpoints = hosts.map(({ ip }) => `https://${ip}:2379`);
  const own = ["ca.crt", "server.crt", "server.key"].map((name) => `${ETCD_PKI}/${name}`);
  return {
    ...USUAL,
    clusterConfiguration: { etcd: { external: { endpoints, caFile, certFile, keyFile } } },
    controlPlaneFiles: {
      ...USUAL.controlPlaneFiles,
      [caFile]: pem("ca"),
      [certFile]: pem(`node-${first}`),
      [keyFile]: pem(`node-${first}-key`),
    },
    beforeKubeadm: hosts.flatMap(({ name }): Profile["beforeKubeadm"] => {
      const files = {
        "ca.crt": pem("ca"),
        "ca.key": pem("ca-key"),
        "server.crt": pem(`member-${name}`),
        "server.key": pem(`member-${name}-key`),
      };
      const puts = Object.entries(files).map(
        ([file, text]) => `cat > ${ETCD_PKI}/${file} <<'END'\n${text}END`,
      );
      const unit = `cat > /etc/systemd/system/etcd.service <<'END'\n${ETCD_UNIT}END`;
      const host = new RegExp(`^${name}$`);
      return [
        [host, [`umask 077; mkdir -p ${ETCD_PKI}`, ...puts, unit].join("\n")],
        [host, etcdEnv(hosts, { own })],
        [host, "systemctl daemon-reload; systemctl enable --quiet etcd; systemctl start --no-block etcd"],
      ];
    }),
  };
}
