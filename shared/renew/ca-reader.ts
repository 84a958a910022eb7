/** A process that reads a CA's certificate, and the certificate that it has in memory. ca-readers.ts finds these processes. */
export interface CaReader {
  /** One of kubeadm's four, "kubelet", or the container of another static pod. */
  name: string;
  ca: "ca" | "etcd-ca";
  /** The file that it reads at its start: the CA's own, or a kubeconfig. */
  path: string;
  /** Time on the current clock. Undefined: it does not run, or its start is unknown. */
  started?: Date | undefined;
  /** When the file last changed, its name, owner and mode included; undefined: it does not exist. */
  changed?: Date | undefined;
  /** Undefined if the content of the file at the start of the process is unknown. */
  holds?: "today's" | "an older one" | undefined;
  /** Expiry of the older certificate that it holds or may hold; undefined: no older one is known here. */
  until?: Date | undefined;
  /** Expiry of the older certificate that the file itself still has: a restart alone does not help. */
  fileUntil?: Date | undefined;
  /**
   * Set for a static pod beside kubeadm's: its kubeconfig may have had another client certificate at its
   * start.
   */
  otherUser?: true | undefined;
}
