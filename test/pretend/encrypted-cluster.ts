/** A cluster whose ConfigMaps are encrypted at rest. */
import { mirrorPod, type Objects } from "./cluster.ts";
import { sealed } from "./sealed.ts";

export const CONFIG = "/etc/kubernetes/enc/encryption.yaml";
export const AUTHENTICATION = "/etc/kubernetes/authn.yaml";

/**
 * Every ConfigMap is encrypted; the API server's own flags name its configuration, in a folder, and another
 * file.
 */
export function encryptedWith(key: Buffer, provider: string, place = CONFIG) {
  return (objects: Objects) => {
    for (const [path, object] of Object.entries(objects))
      if (path.startsWith("configmaps/"))
        objects[path] = sealed(provider, Buffer.from(JSON.stringify(object)), key, `/registry/${path}`);
    const pod = mirrorPod("kube-apiserver");
    const container = pod.spec.containers[0]!;
    container.command!.push(
      `--encryption-provider-config=${place}`,
      `--authentication-config=${AUTHENTICATION}`,
    );
    const mounts = { enc: "/etc/kubernetes/enc", authn: AUTHENTICATION };
    for (const [name, path] of Object.entries(mounts)) {
      container.volumeMounts!.push({ name, mountPath: path });
      pod.spec.volumes!.push({
        name,
        hostPath: { path, type: name === "enc" ? "DirectoryOrCreate" : "File" },
      });
    }
    objects["pods/kube-system/kube-apiserver-m1"] = pod;
  };
}
