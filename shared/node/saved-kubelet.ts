/**
 * What is saved of a kubelet before `kubeadm reset`, and what becomes of it when the same machine is lost once more. After a reset it is all
 * that is left of flags and edits by hand: it is moved aside, never deleted, and only where the kubelet of today has all of it.
 */
import { attempt, Fail, Refused } from "../fail.ts";
import { copyAside, moveAside } from "../files/file-tree.ts";
import { exists, readText, stat, writeFile } from "../files/files.ts";
import { canonicalIp } from "../pki/addresses.ts";
import { veiled } from "../redact.ts";
import { retyped } from "../retyped.ts";
import { say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { isMapping, listOf, readYaml, yamlText } from "../yaml.ts";
import { FLAGS_FILE, type Flags, JOIN_CONFIG, type JoiningKubelet, joinConfig, ownFlags, SAVED, type WhereItWas } from "./join-config.ts";
import { KUBELET_CONFIG, KUBELET_DIR } from "./kubelet-config.ts";
import type { Node } from "./node.ts";
import { rescueOfRun } from "./rescue-folder.ts";

const PRIVATE = { mode: 0o600, folderMode: 0o700 };

/** A join.yaml that is there: all of it, and what is compared. */
interface Saved extends JoiningKubelet {
  config: Record<string, unknown>;
  apiVersion: unknown;
  host: string;
  port: unknown;
}

/** Before the reset. Errors: Refused where join.yaml and the kubelet of today have each a flag that the other has not; Fail as `ownFlags`. */
export function saveKubelet({ name, runtimeEndpoint: criSocket }: Node, was: WhereItWas) {
  const saved = exists(JOIN_CONFIG) ? readSaved() : undefined;
  const isWhole = exists(FLAGS_FILE);
  const flags = saved && !isWhole ? [] : ownFlags();
  say(`the kubelet of ${name} has these flags of yours: ${shown(flags) || "none"}`);
  const next = { name, criSocket, flags };
  if (!saved) return writeAll(next, was);
  const [gone, added] = [without(saved.flags, flags), without(flags, saved.flags)];
  if (gone.length > 0 && added.length > 0) throw otherFlags(gone, added);
  if (isWhole && gone.length === 0 && (added.length > 0 || !fits(saved, next, was))) {
    const before = moveAside(SAVED, asideFolder());
    writeAll(next, was);
    return say(`what was edited by hand before shows: ${shell`diff ${before ?? ""}/config.yaml ${SAVED}/config.yaml`}`);
  }
  if (gone.length > 0) say(`${JOIN_CONFIG} has ${shown(gone)}, and the kubelet of today has not. If you took that away: ${saveAnew()}`);
  keep(saved, was);
  keepConfig();
}

/** After the reset: nothing but what is saved knows the kubelet. Errors: Refused where the line is for another address. */
export function keepSaved(was: WhereItWas) {
  const saved = readSaved();
  if (saved.host !== was.host)
    throw new Refused(`"${JOIN_CONFIG}" is for ${saved.host}, and this line for ${was.host}`, {
      hint: `nothing was changed. Is this the machine with ${was.host}? Else: ${retyped({ address: addressOf(saved) })}. If it has this address now: edit advertiseAddress in ${JOIN_CONFIG}, then ${retyped({})}`,
    });
  keep(saved, was);
}

function addressOf({ host, port }: Saved): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}

function writeAll(kubelet: JoiningKubelet, was: WhereItWas) {
  for (const path of [KUBELET_CONFIG, FLAGS_FILE]) writeFile(path.replace(KUBELET_DIR, SAVED), readText(path)!, PRIVATE);
  // last: where it is, all is saved
  writeFile(JOIN_CONFIG, joinConfig(kubelet, was), { ...PRIVATE, note: "for kubeadm join" });
}

/** What somebody has added to join.yaml stays in it. */
function keep(saved: Saved, was: WhereItWas) {
  if (fits(saved, saved, was)) return say(`${JOIN_CONFIG}: kept`);
  const { apiVersion, controlPlane, nodeRegistration } = mapping(readYaml(joinConfig(saved, was)));
  const old = saved.config;
  copyAside(JOIN_CONFIG, asideFolder());
  const config = {
    ...old,
    apiVersion,
    controlPlane: { ...mapping(old.controlPlane), ...mapping(controlPlane) },
    nodeRegistration: { ...mapping(old.nodeRegistration), ...mapping(nodeRegistration) },
  };
  writeFile(JOIN_CONFIG, yamlText(config), { ...PRIVATE, note: "for this line, with the flags that were saved" });
}

/** kubeadm's reset deletes it, and what is saved may be older. */
function keepConfig() {
  const today = readText(KUBELET_CONFIG)!;
  if (today === readText(KUBELET_CONFIG.replace(KUBELET_DIR, SAVED))) return;
  const stamp = stat(KUBELET_CONFIG)!.modified.toISOString().slice(0, 19).replace(/[-:]/g, "");
  writeFile(`${SAVED}/config-${stamp}.yaml`, today, { ...PRIVATE, note: "the kubelet's of today" });
}

/** Whether kubeadm would read the same of it as of a new one. */
function fits(saved: Saved, kubelet: JoiningKubelet, was: WhereItWas): boolean {
  const compared = ({ apiVersion, host, port, name, criSocket }: Saved) => [apiVersion, host, port, name, criSocket];
  return Bun.deepEquals(compared(saved), compared(understood(joinConfig(kubelet, was))));
}

function readSaved(): Saved {
  const saved = attempt(() => understood(readText(JOIN_CONFIG)!));
  if (!(saved instanceof Fail)) return saved;
  throw new Fail(`Cannot use "${JOIN_CONFIG}": ${saved.message}`, {
    hint: `repair it; the flags are in ${SAVED}/kubeadm-flags.env. If kubeadm reset was not run since: ${saveAnew()}`,
    cause: saved,
  });
}

/** Errors: Fail where it is no JoinConfiguration of this kit. */
function understood(text: string): Saved {
  const config = mapping(parsed(text));
  const registration = mapping(config.nodeRegistration);
  const endpoint = mapping(mapping(config.controlPlane).localAPIEndpoint);
  const { name, criSocket } = registration;
  const { advertiseAddress: host, bindPort: port } = endpoint;
  if (typeof name !== "string" || typeof criSocket !== "string" || typeof host !== "string")
    throw new Fail("it names no node, no criSocket or no advertiseAddress", { hint: `look at it: cat ${JOIN_CONFIG}` });
  return {
    config,
    apiVersion: config.apiVersion,
    host: canonicalIp(host),
    port,
    name,
    criSocket,
    flags: flagsIn(registration.kubeletExtraArgs),
  };
}

function parsed(text: string): unknown {
  try {
    return readYaml(text);
  } catch (cause) {
    throw new Fail(`it is no YAML: ${(cause as Error).message.split("\n")[0]}`, { hint: `look at it: cat ${JOIN_CONFIG}`, cause });
  }
}

function mapping(value: unknown): Record<string, unknown> {
  return isMapping(value) ? value : {};
}

/** A list from v1beta4 on, before that a map. */
function flagsIn(args: unknown): Flags {
  if (isMapping(args)) return Object.entries(args).map(([name, value]) => [name, String(value)]);
  return listOf(args).map((one) => [String(mapping(one).name), String(mapping(one).value)]);
}

function without(flags: Flags, others: Flags): Flags {
  return flags.filter(([name, value]) => !others.some((other) => other[0] === name && other[1] === value));
}

/** Flags whose values are no secret. Of every other one, a cloud's or a label, nobody knows. */
const OPEN =
  /^(v|node-ip|hostname-override|(root|cert|log|volume-plugin|config)-dir|(container-runtime|image-service)(-endpoint)?|pod-infra-container-image|cgroup-(driver|root)|config|(bootstrap-)?kubeconfig|resolv-conf|cluster-(dns|domain)|max-pods|(system|kube)-reserved|eviction-[a-z-]+|feature-gates|fail-swap-on|rotate-(server-)?certificates|network-plugin)$/;

function shown(flags: Flags): string {
  return flags.map(([name, value]) => `--${name}=${OPEN.test(name) ? value : veiled(value)}`).join(" ");
}

function otherFlags(gone: Flags, added: Flags): Refused {
  return new Refused(`"${JOIN_CONFIG}" has ${shown(gone)}, and the kubelet of today has ${shown(added)} instead`, {
    hint: `nothing was changed: kubeadm reset would lose one of them. If those of today are right: ${saveAnew()}. If the saved ones: cp ${SAVED}/kubeadm-flags.env ${FLAGS_FILE}, then ${retyped({})}`,
  });
}

/** Only before the reset. */
function saveAnew(): string {
  return `mv ${SAVED} $(mktemp -d ${SAVED}-XXXX); ${retyped({})}`;
}

function asideFolder(): string {
  return `${rescueOfRun().dir}/aside`;
}
