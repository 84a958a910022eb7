/**
 * Answers reads of the API out of etcd's data: no request reaches an API server, however large the cluster
 * is. For the objects that etcd holds as themselves, by their place (apiserver
 * pkg/registry/generic/registry); no aggregated API, no Scale, no CustomResource's defaults.
 */
import type { ApiReader } from "../api/kube-api.ts";
import type { EtcdData } from "../etcd-data/data.ts";
import { attempt, Fail } from "../fail.ts";
import { asPod } from "../objects/objects.ts";
import { decodeStored, registryPrefix } from "../objects/stored.ts";

/** Where the place is not the resource's own name. */
const PLACES: Record<string, string> = {
  nodes: "minions",
  services: "services/specs",
  apiservices: "apiregistration.k8s.io/apiservices",
};

/** Often encrypted. One that cannot be read is left out; of anything else that is an error. */
const SEALED = ["secrets"];

interface Asked {
  resource: string;
  /** Key of one object, or the beginning of all of them. */
  key: string;
  /** Field selector, "metadata.name" and its value. */
  selected: [field: string, value: string] | undefined;
}

/** `/apis/apps/v1/namespaces/NS/deployments/NAME`, and the collections. */
const PATH = /^\/apis?\/(?:[a-z0-9.-]+\/)?v\d\w*\/(?:namespaces\/([^/]+)\/)?([a-z]+)(?:\/([^/]+))?$/;

export function storedApi(data: EtcdData): ApiReader {
  const prefix = registryPrefix(data);
  const objectAt = <T>(key: string, resource: string): T | undefined => {
    const stored = data.get(key);
    const object = stored && attempt(() => decodeStored(data, stored));
    const fail = (why: string) => new Fail(why, { hint: "ask the API server: kubectl get" });
    if (object instanceof Fail && SEALED.includes(resource)) return undefined;
    if (object instanceof Fail) throw fail(object.message);
    return (
      object && resource === "pods" ? asPod(object, (why) => fail(`Cannot read "${key}": ${why}`)) : object
    ) as T | undefined;
  };
  const items = async function* <T>(path: string): AsyncGenerator<T> {
    const { key, resource, selected } = askedBy(path, prefix);
    const [field, value] = selected ?? [];
    const keys = data.keys(key);
    for (const one of field === "metadata.name" ? keys.filter((name) => name.endsWith(`/${value}`)) : keys) {
      const object = objectAt<T>(one, resource);
      const isSelected =
        field === undefined ||
        field === "metadata.name" ||
        (object as Record<string, unknown>)?.[field] === value;
      if (object !== undefined && isSelected) yield object as Awaited<T>;
    }
  };
  const find = async <T>(path: string): Promise<T | undefined> => {
    const { key, resource } = askedBy(path, prefix);
    return objectAt<T>(key, resource);
  };
  return {
    items,
    find,
    get: async <T>(path: string): Promise<T> => {
      const found = await find<T>(path);
      if (found) return found;
      throw new Fail(`etcd's data has no "${path}"`, {
        hint: "run the same line again: it was deleted meanwhile",
      });
    },
    list: <T>(path: string) => Array.fromAsync(items<T>(path)),
  };
}

function askedBy(path: string, prefix: string): Asked {
  const url = new URL(path, "https://etcd");
  const [, namespace, resource = "", name] = PATH.exec(decodeURI(url.pathname)) ?? [];
  if (!resource) throw new Error(`no place in etcd for ${path}`);
  const selector = url.searchParams.get("fieldSelector")?.split("=");
  const place = [prefix, PLACES[resource] ?? resource, ...(namespace ? [namespace] : []), name ?? ""].join(
    "/",
  );
  return { resource, key: place, selected: selector && [selector[0]!, selector[1] ?? ""] };
}
