/** The file of a worker's own static pod, and the line that reads it out of etcd's data. */
import { command } from "../again.ts";

const MANIFESTS = "/etc/kubernetes/manifests";

export const placeOfPod = (file: string) => `${MANIFESTS}/${file}`;

export const manifestLine = (worker: string, pod: string) =>
  command("00-assess", { manifest: `${worker}/${pod}` });
