/**
 * Files that configuration files of the API server name in turn: an AdmissionConfiguration names its plugins' files, an
 * AuthorizationConfiguration kubeconfigs, an EncryptionConfiguration the sockets of KMS plugins, an EgressSelectorConfiguration certificates
 * and sockets, a kubeconfig certificates and keys. Shapes: apiserver pkg/apis/{apiserver,audit}/v1, client-go tools/clientcmd/api/v1.
 */
import { dirname, resolve } from "node:path";
import { attempt, Fail } from "../fail.ts";
import { readYaml } from "../yaml.ts";

/** Keys that hold the path of a file; a relative one is below the folder of the file that names it. */
const FILES = [
  "path",
  "kubeConfigFile",
  "caBundle",
  "clientKey",
  "clientCert",
  "certificate-authority",
  "client-certificate",
  "client-key",
  "tokenFile",
];

/** Keys that hold the path of a socket, as `unix:///path` or as it is. */
const SOCKETS = ["endpoint", "udsName"];

interface NamedInside {
  path: string;
  kind: "file" | "socket";
}

/** `text` is the content of the file `path`. Empty where it is no YAML: a certificate, or a file that is cut off. */
export function namedInside(text: string, path: string): NamedInside[] {
  return attempt(() => namedBelow(readable(text), dirname(path)), []);
}

function readable(text: string): unknown {
  try {
    return readYaml(text);
  } catch (cause) {
    throw new Fail("it is no YAML", { hint: "look at the file", cause });
  }
}

function namedBelow(value: unknown, folder: string): NamedInside[] {
  if (Array.isArray(value)) return value.flatMap((item) => namedBelow(item, folder));
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, child]) =>
    typeof child === "string" ? namedBy(key, child, folder) : namedBelow(child, folder),
  );
}

function namedBy(key: string, text: string, folder: string): NamedInside[] {
  if (SOCKETS.includes(key)) {
    const path = text.replace(/^unix:\/\//, "");
    return path.startsWith("/") ? [{ path, kind: "socket" }] : [];
  }
  // the same key may hold a certificate itself
  return FILES.includes(key) && /^[\w./@+-]+$/.test(text) && text.length < 300 ? [{ path: resolve(folder, text), kind: "file" }] : [];
}
