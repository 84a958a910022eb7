/** Where a manifest waits that the kubelet must not read yet. */
import { basename, dirname, join } from "node:path";

/**
 * The path of a manifest that must not start yet: `.kube-apiserver.yaml`. The kubelet ignores it
 * (pkg/kubelet/config/file.go).
 */
export function waitingPath(path: string): string {
  return join(dirname(path), `.${basename(path)}`);
}
