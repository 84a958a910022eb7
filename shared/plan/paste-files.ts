/**
 * Lines that bring files from node to node, or to the operator's machine: with owner and mode, and no copy
 * lies anywhere between.
 */
import { basename, dirname } from "node:path";
import { PACK_RUNS } from "../node/rescue-folder.ts";
import { forScp, programWord } from "../shell-line.ts";
import { asRoot, byName, KIT_PLACE, type Line, meetByName, onEach, ROOT, sudo } from "./paste.ts";
import { isName, type PlanNode } from "./plan-nodes.ts";

/** Whoever has one of these can become a node, or open the bundle of the keys. */
const SECRET = /(^|\/)(token|passphrase)$/;

/**
 * `files` of one folder. Another user may not read such a file: root's tar packs and unpacks it. NODE in the
 * path is the name of the node that gets it: each has a file of its own. A secret goes to the machine that ssh
 * knows by that name: a worker's address is only its own claim (HostKeyAlias in ssh_config(5)). scp would take
 * the name for both ends.
 */
export function carryLines(
  user: string,
  from: PlanNode,
  nodes: readonly PlanNode[],
  files: readonly string[],
): Line[] {
  const [file = "", ...more] = files;
  const path = file.startsWith("/")
    ? file
    : `${KIT_PLACE}/${more.length > 0 ? `{${files.join(",")}}` : file}`;
  const into = file.startsWith("/") ? dirname(path) : KIT_PLACE;
  const isSecret = files.some((one) => SECRET.test(one));
  const isPiped = isSecret || user !== ROOT;
  const own = (name: string) => path.replace("NODE", name);
  const scp = (address: string, name: string) =>
    `scp -3 -p root@${forScp(from.address)}:${own(name)} root@${forScp(address)}:${into}/`;
  const pipe = (address: string, name: string) =>
    tarPipe(
      user,
      { from: from.address, to: address, ...(isSecret && { called: name.replace(" ", "-") }) },
      { folder: dirname(own(name)), into, names: files.map((one) => basename(one)).join(" ") },
    );
  const line = isPiped ? (address: string, name: string) => `(${pipe(address, name)})` : scp;
  const program = isPiped ? pipe : scp;
  if (!isSecret && path === own(""))
    return onEach(nodes, line, { same: isPiped ? `bash -c ${programWord(pipe("{}", ""))}` : scp("{}", "") });
  const all = onEach(nodes, line, { named: `bash -c ${programWord(program("$0", "$1"))}` });
  return isSecret ? [...meetByName(user, nodes), ...all] : all;
}

/**
 * It fails where either end does. `called`: the name by which ssh knows the machine that gets it. Only `names` are
 * unpacked, whatever comes. `into`: unset, the same folder there. `keep`: what is there already stays.
 */
export function tarPipe(
  user: string,
  { from, to, called }: { from: string; to: string; called?: string },
  {
    folder,
    into = folder,
    names,
    keep = false,
  }: { folder: string; into?: string; names: string; keep?: boolean },
): string {
  const tar = (at: string) => `${sudo(user)}tar -C ${at}`;
  return `set -o pipefail; ssh -n ${user}@${from} ${tar(folder)} -cf - ${names} | ssh ${called ? `${byName(called)} ` : ""}${user}@${to} ${tar(into)} -xp${keep ? "k" : ""}f - ${names}`;
}

/** A file of this node, to the operator's machine. */
export function toOperator(user: string, { name, address }: PlanNode, file: string): Line {
  const path = file.startsWith("/") ? file : `${KIT_PLACE}/${file}`;
  const text =
    user === ROOT
      ? `scp -p root@${forScp(address)}:${path} .`
      : `ssh -n ${user}@${address} ${sudo(user)}cat ${path} > ${basename(path)}`;
  return { at: name, text };
}

/**
 * The transcripts of these nodes, to one, each under its node's name: a node is believed by the file that it
 * came in.
 */
export function gatherLines(user: string, to: PlanNode, nodes: readonly PlanNode[], folder: string): Line[] {
  const put = (name: string) => `cd ${KIT_PLACE} && mkdir -p -m 700 ${folder} && cat > ${folder}/${name}.tar`;
  const there = (name: string) => (user === ROOT ? `"${put(name)}"` : `"${sudo(user)}sh -c '${put(name)}'"`);
  const pipe = (address: string, name: string) =>
    `set -o pipefail; ssh -n ${user}@${address} ${asRoot(user, PACK_RUNS)} | ssh ${user}@${to.address} ${there(name)}`;
  const named = nodes.filter(({ name }) => isName(name));
  return onEach(named, (address, name) => `(${pipe(address, name)})`, {
    named: `bash -c ${programWord(pipe("$0", "$1"))}`,
  });
}
