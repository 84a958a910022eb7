/**
 * What a file of a control plane node says, field by field, so that two of them can be compared that are
 * never equal byte by byte: a new certificate has another key, other dates and another CA. A field is a list
 * whose order does not count. No key is in it.
 */
import { attempt, Fail } from "../fail.ts";
import { readText } from "../files/files.ts";
import { readManifest } from "../manifests/on-disk.ts";
import { infoOf } from "../pki/certificate.ts";
import { readKubeconfig } from "../pki/kubeconfigs.ts";
import { manifestLines } from "../static-pods/manifest-trouble.ts";

export type Fields = Record<string, readonly string[]>;

/** Subject, names, usages and kind of key; undefined where it is no certificate. */
export function certificateFields(pem: string | undefined): Fields | undefined {
  const info = infoOf(pem);
  if (!info) return undefined;
  const { subject, sans, usages, algorithm } = info;
  return { subject: subject.split(", "), names: [...sans.dns, ...sans.ips], usages, key: [algorithm] };
}

/**
 * Where it leads, and as whom: the subject's CN is the user, its O the groups. `clientPem`: of a kubelet,
 * whose certificate is a file.
 */
export function kubeconfigFields(path: string, clientPem?: string): Fields | undefined {
  const config = attempt(() => readKubeconfig(path));
  if (config instanceof Fail || !config) return undefined;
  const info = infoOf(clientPem ?? config.clientCertPem);
  return {
    server: [config.server],
    user: info ? [`CN=${info.cn}`] : [],
    rights: info?.o.map((group) => `O=${group}`) ?? [],
  };
}

/** What a manifest means: each value of it. */
export function manifestFields(path: string): Fields | undefined {
  const manifest = attempt(() => readManifest(path));
  return manifest instanceof Fail || !manifest ? undefined : { lines: manifestLines(manifest) };
}

/** `-names x` is in `here` only, `+names x` in `back` only. A manifest's lines stand alone. */
export function fieldDifferences(here: Fields, back: Fields): string[] {
  return Object.keys({ ...here, ...back }).flatMap((field) => {
    const [has, gets] = [here[field] ?? [], back[field] ?? []];
    const only = (sign: string, of: readonly string[], other: readonly string[]) =>
      of
        .filter((value) => !other.includes(value))
        .map((value) => `${sign}${field === "lines" ? "" : `${field} `}${value}`);
    return [...only("-", has, gets), ...only("+", gets, has)];
  });
}

/** Text of a file, "" where it is not there. */
export function textOf(path: string): string {
  return attempt(() => readText(path), "") ?? "";
}
