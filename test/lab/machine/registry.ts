/**
 * A registry that has the lab's images, for clusters whose kubelets ask one at each start of a container
 * (AlwaysPullImages). It only serves what is in the store of images. The lab starts it in the switch's
 * namespace: `bun registry.ts STORE NAMES ADDRESS PORT`.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

const PATH = /^\/v2\/(?<name>.+)\/(?:manifests|blobs)\/(?<reference>[^/]+)$/;

/** `digests`: image name → its manifest's digest, as containerd lists them. */
export function registry(store: string, digests: Record<string, string>): (request: Request) => Response {
  return (request) => {
    const { pathname, searchParams } = new URL(request.url);
    if (pathname === "/v2/") return new Response("{}");
    const { name, reference } = PATH.exec(pathname)?.groups ?? {};
    const image = `${searchParams.get("ns") ?? "docker.io"}/${name}:${reference}`;
    const digest = reference?.startsWith("sha256:") ? reference : digests[image];
    const blob =
      digest && join(store, "containerd/io.containerd.content.v1.content/blobs", digest.replace(":", "/"));
    if (!blob || !existsSync(blob)) return new Response("{}", { status: 404 });
    const headers = { "Content-Type": typeOf(pathname, blob), "Docker-Content-Digest": digest };
    return new Response(Bun.file(blob), { headers });
  };
}

function typeOf(pathname: string, blob: string): string {
  if (!pathname.includes("/manifests/")) return "application/octet-stream";
  return (JSON.parse(readFileSync(blob, "utf8")) as { mediaType: string }).mediaType;
}

if (import.meta.main) {
  const [store, names, hostname, port] = process.argv.slice(2) as [string, string, string, string];
  const digests = JSON.parse(readFileSync(names, "utf8")) as Record<string, string>;
  Bun.serve({ hostname, port: Number(port), fetch: registry(store, digests) });
}
