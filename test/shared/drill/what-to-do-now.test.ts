/** What a drill tells to do while all is well: only what the drill has found, each as a line that runs. */
import { expect, test } from "bun:test";
import { shellLinesOf } from "../../../shared/drill/rehearsed-repair.ts";

type Found = Parameters<typeof shellLinesOf>[0];
const NOTHING: Found = { files: [], servers: [], lost: [], stops: [] };
const file = (path: string, is: string, ...differences: string[]) => ({ path, is, differences });
const lost = (path: string, kept: string, kind = "file") => ({ path, kept, kind });
const STOP = { message: "it stops", hint: "do this" };
const PKI = "/etc/kubernetes/pki";
const SANS =
  "kubectl --kubeconfig /etc/kubernetes/admin.conf -n kube-system edit configmap kubeadm-config   # ";

test.each<[string, object, (string | RegExp)[]]>([
  ["nothing was found", {}, []],
  ["the repair would stop", { stops: [STOP] }, ["# the repair would stop: it stops\ndo this"]],
  [
    "it would stop, and copies would help, of which there are none",
    { stops: [{ ...STOP, byCopies: true }] },
    ["# the repair would stop: it stops\ndo this"],
  ],
  [
    "it would stop for lost files: the copies are named instead",
    { stops: [{ ...STOP, byCopies: true }], lost: [lost("/a", "none")] },
    [/^# nobody can rebuild \/a: keep a copy\n/],
  ],
  [
    "it would stop for something else, and files are lost, too",
    { stops: [STOP], lost: [lost("/a", "none")] },
    [/^# the repair would stop/, /^# nobody can rebuild/],
  ],
  ["a backup that fits", { backup: { fits: true, says: "yes", command: "x" } }, []],
  [
    "a backup that does not fit",
    { backup: { fits: false, says: "no backup", command: "pack" } },
    [/^# no backup: without the old keys .*\npack$/],
  ],
  [
    "files that nobody can rebuild are copied",
    { lost: [lost("/a", "none"), lost("/b", "same"), lost("/run/s", "none", "socket")] },
    [/^# nobody can rebuild \/a: keep a copy\n\(umask 077; tar -C \/ -czf \S+ a\) /],
  ],
  [
    "the copy is another one",
    { lost: [lost("/a", "other"), lost("/b", "none")] },
    [/^# nobody can rebuild \/a, \/b, as your copy is not the same: keep a copy\n/],
  ],
  ["all are kept", { lost: [lost("/a", "same")] }, []],
  ["a file that is the same", { files: [file("/a", "manifest")] }, []],
  [
    "a manifest that differs",
    { files: [file("/m", "manifest", "-x")] },
    [/^# \/m would not come back as it is: -x\njournalctl -u kubelet/],
  ],
  [
    "a certificate with another name",
    { files: [file(`${PKI}/apiserver.crt`, "certificate", "-names a, b", "+key")] },
    [
      `# ${PKI}/apiserver.crt would not come back as it is: -names a, b, +key\n${SANS}apiServer.certSANs: add a, b`,
    ],
  ],
  [
    "etcd's certificate with another name",
    { files: [file(`${PKI}/etcd/peer.crt`, "certificate", "-names a")] },
    [new RegExp(`${"etcd.local.peerCertSANs"}: add a$`)],
  ],
  [
    "a certificate that has more names",
    { files: [file(`${PKI}/apiserver.crt`, "certificate", "+names a")] },
    [/\n\(umask 077; cp -p .*apiserver\.crt/],
  ],
  [
    "a client's certificate with another name",
    { files: [file(`${PKI}/apiserver-kubelet-client.crt`, "certificate", "-names a")] },
    [/\n\(umask 077; cp -p /],
  ],
  [
    "a server that shows another certificate",
    { servers: [{ server: "etcd", path: "/c", differences: ["-x"] }] },
    [/^# etcd shows another certificate than \/c would be: -x\n.*05-verify/],
  ],
  [
    "a server that shows what its file says: the file alone is named",
    { files: [file("/c", "x", "-x")], servers: [{ server: "etcd", path: "/c", differences: ["-x"] }] },
    [/^# \/c would not come back/],
  ],
  [
    "a server whose file is well",
    { files: [file("/c", "x")], servers: [{ server: "etcd", path: "/c", differences: ["-x"] }] },
    [/^# etcd shows another/],
  ],
  ["a server that shows the same", { servers: [{ server: "etcd", path: "/c", differences: [] }] }, []],
])("%s", (_, found, expected) => {
  const lines = shellLinesOf({ ...NOTHING, ...found } as Found);
  expect(lines).toEqual(
    expected.map((one) => (typeof one === "string" ? one : expect.stringMatching(one))) as never,
  );
});
