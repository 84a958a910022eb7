/** A file that is lost, and that a program of this node is told to read. */
export interface LostFile {
  path: string;
  kind: "file" | "folder" | "socket";
  /** "kube-apiserver", "kubelet". */
  program: string;
  /** "--audit-policy-file", "volume audit", "/etc/kubernetes/admission.yaml". */
  namedBy: string;
  without: string;
  /** Its path in the container of the static pod; "" where there is none. */
  inside: string;
  servedBy?: string;
  /** Text in etcd's data, and where: part 2 writes it. */
  stored?: { text: string; from: string };
}
