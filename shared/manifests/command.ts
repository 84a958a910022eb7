/**
 * A static pod's command line: its flags, and the files of the host that it needs.
 *
 * Configuration files of the API server name files in turn: an AdmissionConfiguration its plugins' files, an
 * AuthorizationConfiguration kubeconfigs, an EncryptionConfiguration the sockets of KMS plugins, an
 * EgressSelectorConfiguration certificates and sockets, a kubeconfig certificates and keys. Shapes: apiserver
 * pkg/apis/{apiserver,audit}/v1, client-go tools/clientcmd/api/v1.
 */
import { dirname, resolve } from "node:path";
import { attempt, Fail } from "../fail.ts";
import { CONTROL_PLANE } from "../node/containers.ts";
import type { ContainerSpec, PodSpec, Volume } from "../objects/objects.ts";
import { redact, veiled } from "../plain.ts";
import { readYaml } from "../yaml.ts";

/**
 * A file or folder of the host that a pod needs. `namedBy`: "volume k8s-certs", "--audit-policy-file", "env
 * KUBECONFIG". `type` as in hostPath: File, Directory, FileOrCreate, DirectoryOrCreate, …, or "" if the
 * volume has no type. `inside`: its path in the container, "" if none mounts it.
 */
export interface HostFile {
  path: string;
  namedBy: string;
  type: string;
  inside: string;
}

/**
 * Those that the pod's volumes mount, or that its arguments and variables name below such a mount. A path that
 * several of them name is listed several times.
 */
export function hostFiles(manifest: { spec: PodSpec }): HostFile[] {
  const { volumes = [], containers, initContainers = [] } = manifest.spec;
  const all = [...initContainers, ...containers];
  const mountOf = (name: string) =>
    all
      .flatMap(({ volumeMounts = [] }) => volumeMounts)
      .find((mount) => mount.name === name && !mount.subPath);
  const mounted = volumes.flatMap(({ name, hostPath }) =>
    hostPath
      ? [
          {
            path: hostPath.path,
            namedBy: `volume ${name}`,
            type: hostPath.type ?? "",
            inside: mountOf(name)?.mountPath ?? "",
          },
        ]
      : [],
  );
  const named = all.flatMap((container) =>
    namedPaths(container).flatMap(({ path, namedBy, type }) => {
      const hostPath = toHostPath(path, container, volumes);
      return hostPath ? [{ path: hostPath, namedBy, type: type ?? pathType(namedBy), inside: path }] : [];
    }),
  );
  return [...mounted, ...named];
}

/** The path on the host of a path in the pod's containers; undefined if none of them mounts it. */
export function hostPathOf({ spec }: { spec: PodSpec }, inside: string): string | undefined {
  const paths = spec.containers.flatMap(
    (container) => toHostPath(inside, container, spec.volumes ?? []) ?? [],
  );
  return paths[0];
}

type NamedPath = { path: string; namedBy: string; type?: string };

/** Paths in the arguments (`--flag=/path`, `-f /path`, lists with commas) and in the variables. */
function namedPaths(container: ContainerSpec): NamedPath[] {
  const words = [...(container.command ?? []), ...(container.args ?? [])];
  const inWords = words.flatMap((word, i) => {
    const [, flag, value] = /^(--?[\w-]+)=(.*)$/s.exec(word) ?? [];
    const previous = words[i - 1] ?? "";
    const namedBy = flag ?? (/^--?[\w-]+$/.test(previous) ? previous : "argument");
    return paths(value ?? word, namedBy);
  });
  const inEnv = (container.env ?? []).flatMap(({ name, value }) => paths(value ?? "", `env ${name}`));
  return [...inWords, ...inEnv];
}

/** `/a.crt,/a.key:example.org` names two, `unix:///a.sock` a socket; any other URL names none. */
function paths(value: string, namedBy: string): NamedPath[] {
  const [, socket] = /^unix:(?:\/\/)?(\/[^/\s]\S*)$/.exec(value) ?? [];
  if (socket) return [{ path: socket, namedBy, type: "Socket" }];
  return value.split(/[,:]/).flatMap((path) => (/^\/[^/\s]\S*$/.test(path) ? [{ path, namedBy }] : []));
}

/** The path on the host of a path in the container; undefined if it is in no hostPath volume. */
function toHostPath(path: string, container: ContainerSpec, volumes: Volume[]): string | undefined {
  const isBelow = (mountPath: string) =>
    path === mountPath || path.startsWith(`${mountPath.replace(/\/$/, "")}/`);
  const mounts = (container.volumeMounts ?? []).filter((mount) => isBelow(mount.mountPath));
  const mount = mounts.sort((a, b) => b.mountPath.length - a.mountPath.length)[0];
  const hostPath = volumes.find((volume) => volume.name === mount?.name)?.hostPath;
  if (!mount || !hostPath) return undefined;
  const below = path.slice(mount.mountPath.replace(/\/$/, "").length);
  return `${hostPath.path.replace(/\/$/, "")}${mount.subPath ? `/${mount.subPath}` : ""}${below}` || "/";
}

/**
 * The type by the flag's name: the program makes folders and logs itself, a plugin its socket; everything
 * else is a file that must exist.
 */
function pathType(namedBy: string): string {
  if (/-endpoint$/.test(namedBy)) return "Socket";
  if (/dir$/i.test(namedBy)) return "DirectoryOrCreate";
  return /log-(path|file)$|^--log-outputs$/.test(namedBy) ? "FileOrCreate" : "File";
}

/**
 * The container that gives a static pod of kubeadm its name; sidecars may stand before it. In other pods the
 * first container.
 */
export function mainContainer({
  spec,
}: {
  spec: { containers?: readonly ContainerSpec[] };
}): ContainerSpec | undefined {
  const isServer = ({ name }: ContainerSpec) => (CONTROL_PLANE as readonly string[]).includes(name);
  return spec.containers?.find(isServer) ?? spec.containers?.[0];
}

/**
 * Its words with the flags, to read or to change in place: kubeadm has them in `command`; others have the
 * program there, and the flags in `args`.
 */
export function commandOf({ spec }: { spec: Pick<PodSpec, "containers"> }): string[] {
  const { command = [], args = [] } = mainContainer({ spec }) ?? {};
  return args.some((word) => word.startsWith("--")) ? args : command;
}

/**
 * The flags in a component's command, `--name=value` or in two words; names without dashes. The components
 * take nothing but flags, so a word behind `--name` that is no flag is its value. `get` returns the last
 * value, as the components do, and "true" for a bare `--name`; `all` each value, of a flag that comes
 * several times. `set` and `remove` change the array in place. `set` keeps the flag's position, or appends
 * the flag; `remove` takes out those with this value, or all.
 */
export function flags(command: string[]) {
  const valuesOf = (name: string) =>
    command.flatMap((word, at) => {
      if (word.startsWith(`--${name}=`)) return { at, words: 1, value: word.slice(`--${name}=`.length) };
      if (word !== `--${name}`) return [];
      const value = /^(?!-\D)/.test(command[at + 1] ?? "-x") ? command[at + 1] : undefined;
      return { at, words: value === undefined ? 1 : 2, value };
    });
  const remove = (name: string, only?: string) => {
    for (const { at, words, value } of valuesOf(name).reverse())
      if (only === undefined || value === only) command.splice(at, words);
  };
  return {
    get: (name: string): string | undefined => {
      const last = valuesOf(name).at(-1);
      return last && (last.value ?? "true");
    },
    all: (name: string): string[] => valuesOf(name).flatMap(({ value }) => value ?? []),
    set: (name: string, value: string) => {
      const place = valuesOf(name)[0]?.at ?? command.length;
      remove(name);
      command.splice(place, 0, `--${name}=${value}`);
    },
    remove,
  };
}

export function podFlags(pod: { spec: Pick<PodSpec, "containers"> } | undefined) {
  return flags(pod ? commandOf(pod) : []);
}

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

/**
 * `text` is the content of the file `path`. Empty if it is no YAML: a certificate, or a file that is cut
 * off.
 */
export function namedInside(text: string, path: string): NamedInside[] {
  return attempt(() => namedBelow(parseQuietly(text), dirname(path)), []);
}

function parseQuietly(text: string): unknown {
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
  return FILES.includes(key) && /^[\w./@+-]+$/.test(text) && text.length < 300
    ? [{ path: resolve(folder, text), kind: "file" }]
    : [];
}

/**
 * A word of a container's command, safe for a terminal or a transcript: flags of kubeadm's servers are no
 * secrets, unless their name says so. Those of other programs, and a shell's arguments, may be.
 */
export function printableArgument(word: string, container: string): string {
  const isServers =
    (CONTROL_PLANE as readonly string[]).includes(container) &&
    /^(--[\w-]+(=|$)|(\/[\w./-]*|kube-[a-z-]+|etcd)$)/.test(word);
  const [, flag, value] = /^(--[\w-]+)(?:=(.*))?$/s.exec(word) ?? [];
  const isNamed = /^--kms-|(?:pass(?:word|wd|phrase)?|secret|token|credentials?|key)$/.test(flag ?? "");
  if (isServers && redact(word).text === word && !(isNamed && value && !value.startsWith("/"))) return word;
  if (flag === undefined) return veiled(word);
  return value === undefined ? flag : `${flag}=${veiled(value)}`;
}

/** Whether an image's release, major and minor, is older than another image's or version's; false if either is unknown. */
export function isOlderRelease(image = "", than = ""): boolean {
  const [one, other] = [image, than].map((text) => /^v?(\d+)\.(\d+)/.exec(text.split(":").at(-1)!));
  const number = ([, major, minor]: RegExpExecArray) => Number(major) * 1000 + Number(minor);
  return Boolean(one && other) && number(one!) < number(other!);
}
