/**
 * Single fields of a kubeconfig's text. All else that people wrote stays: servers, names, other contexts.
 * Reads any form: cluster-info and kube-proxy's ConfigMap hold kubeconfigs, too.
 */
import { attempt, Fail } from "../fail.ts";
import { isMapping, listOf, readYaml, yamlText } from "../yaml.ts";

type Fields = Record<string, unknown>;

/**
 * The server of its current context; without one that of its first cluster. Undefined if it is no kubeconfig,
 * or names none.
 */
export function serverIn(text: string): string | undefined {
  const config = read(text);
  const server = config && clusterOf(config)?.server;
  return typeof server === "string" && URL.canParse(server) ? server : undefined;
}

/** The CAs in the same cluster's entry. */
export function caIn(text: string): string | undefined {
  const config = read(text);
  const data = config && clusterOf(config)?.["certificate-authority-data"];
  return typeof data === "string" ? Buffer.from(data, "base64").toString() : undefined;
}

/**
 * The same text with this CA in the cluster of its current context; undefined if it names no server, as then
 * nothing in it is worth keeping.
 */
export function withCa(text: string, ca: string): string | undefined {
  const config = serverIn(text) === undefined ? undefined : read(text);
  if (!config) return undefined;
  const cluster = clusterOf(config)!;
  delete cluster["certificate-authority"];
  cluster["certificate-authority-data"] = Buffer.from(ca).toString("base64");
  return yamlText(config);
}

/** The same, and its user has the certificate and key in this file, as a kubelet's. */
export function withTrust(
  text: string,
  { ca, clientPem }: { ca: string; clientPem: string },
): string | undefined {
  const config = read(withCa(text, ca) ?? "");
  const user = config && entryNamed(config.users, contextOf(config)?.user, "user");
  if (!user) return undefined;
  for (const field of ["client-certificate-data", "client-key-data", "token", "tokenFile"])
    delete user[field];
  Object.assign(user, { "client-certificate": clientPem, "client-key": clientPem });
  return yamlText(config);
}

/** The same, and its user has this certificate: all else stays, as with `kubeadm certs renew`. */
export function withUser(
  text: string,
  { ca, user: { cert, key } }: { ca: string; user: { cert: string; key: string } },
): string | undefined {
  const config = read(withCa(text, ca) ?? "");
  const user = config && entryNamed(config.users, contextOf(config)?.user, "user");
  if (!user) return undefined;
  for (const field of Object.keys(user)) delete user[field];
  const [certData, keyData] = [cert, key].map((pem) => Buffer.from(pem).toString("base64"));
  Object.assign(user, { "client-certificate-data": certData, "client-key-data": keyData });
  return yamlText(config);
}

function read(text: string): Fields | undefined {
  const config = attempt(() => parse(text));
  return config instanceof Fail || !isMapping(config) ? undefined : config;
}

function parse(text: string): unknown {
  try {
    return readYaml(text);
  } catch (cause) {
    throw new Fail("it is not YAML", { hint: "look at it", cause });
  }
}

function contextOf(config: Fields): Fields | undefined {
  return entryNamed(config.contexts, config["current-context"], "context");
}

function clusterOf(config: Fields): Fields | undefined {
  const [first] = listOf(config.clusters);
  return entryNamed(
    config.clusters,
    contextOf(config)?.cluster ?? (isMapping(first) ? first.name : undefined),
    "cluster",
  );
}

function entryNamed(items: unknown, name: unknown, field: string): Fields | undefined {
  const item = listOf(items).find((one) => isMapping(one) && one.name === name);
  const value = isMapping(item) ? item[field] : undefined;
  return isMapping(value) ? value : undefined;
}
