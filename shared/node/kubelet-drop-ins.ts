import { Fail } from "../fail.ts";
import { list, readText, stat } from "../files/files.ts";
import { isMapping, readYaml } from "../yaml.ts";

/**
 * The configuration as the kubelet has it. A folder that is lost changes nothing. Errors: Fail where a
 * drop-in cannot be read.
 */
export function withDropIns<T extends object>(config: T, folder: string | undefined): T {
  return (folder ? dropInsIn(folder) : []).reduce<Fields>(
    (merged, path) => applyPatch(merged, readDropIn(path)),
    config as Fields,
  ) as T;
}

function dropInsIn(folder: string): string[] {
  return list(folder).flatMap((name) => {
    const path = `${folder}/${name}`;
    if (stat(path)?.kind === "dir") return dropInsIn(path);
    return name.endsWith(".conf") ? [path] : [];
  });
}

function readDropIn(path: string): Fields {
  const hint =
    "repair it, or move it away: the kubelet does not start with it either; journalctl -u kubelet -n 50";
  try {
    const fields = readYaml(readText(path) ?? "");
    if (isMapping(fields)) return fields;
  } catch (cause) {
    const why = (cause as Error).message.split("\n")[0];
    throw new Fail(`Cannot read the kubelet's drop-in "${path}": ${why}`, { hint, cause });
  }
  throw new Fail(`The kubelet's drop-in "${path}" is no KubeletConfiguration`, { hint });
}

/** null takes a field away; everything but an object replaces what was there. */
function applyPatch(target: Fields, patch: Fields): Fields {
  const result = { ...target };
  for (const [name, value] of Object.entries(patch)) {
    const old = Object.hasOwn(result, name) ? result[name] : undefined;
    const now = isMapping(value) ? applyPatch(isMapping(old) ? old : {}, value) : value;
    const plain = { value: now, enumerable: true, writable: true, configurable: true };
    if (value === null) delete result[name];
    else Object.defineProperty(result, name, plain);
  }
  return result;
}

type Fields = Record<string, unknown>;
