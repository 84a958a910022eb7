/**
 * A pretend Kubernetes API: objects by path, with the verbs, selectors and pages that shared/api/kube-api.ts
 * uses.
 */
import type { KubeObject } from "../../shared/api/kube-object.ts";

// biome-ignore lint/suspicious/noExplicitAny: tests use objects of every kind
type Any = any;

export interface ApiRequest {
  method: string;
  /** With the query. */
  path: string;
  body: Any;
  /** Of the header Authorization. */
  token?: string | undefined;
}

export interface ApiOptions {
  /** Path → object. Without them, `metadata.name`, `namespace` and `uid` come from the path. */
  objects?: Record<string, Any>;
  /**
   * Sees every request first. If it returns a response, that is the answer; a promise holds the answer back.
   */
  on?: (
    request: ApiRequest,
    api: { objects: Map<string, Any> },
  ) => Response | undefined | Promise<Response | undefined>;
  hostname?: string;
  port?: number;
  tls?: { cert: string; key: string };
  /** Items of a page; default: what the client asks for. */
  pageSize?: number;
}

/** The `ca` of a client for a server without TLS: a client without any is refused. */
export const NO_TLS = "-----BEGIN CERTIFICATE-----";

export function pretendApi(options: ApiOptions = {}) {
  const objects = new Map<string, Any>();
  for (const [path, object] of Object.entries(options.objects ?? {})) objects.set(path, named(path, object));
  const requests: ApiRequest[] = [];
  const server = Bun.serve({
    hostname: options.hostname ?? "127.0.0.1",
    port: options.port ?? 0,
    ...(options.tls ? { tls: options.tls } : {}),
    fetch: async (request) => {
      const url = new URL(request.url);
      const text = await request.text();
      const asked = {
        method: request.method,
        path: url.pathname + url.search,
        body: text ? JSON.parse(text) : undefined,
        token: request.headers.get("authorization")?.replace(/^Bearer /, ""),
      };
      requests.push(asked);
      return (
        (await options.on?.(asked, { objects })) ??
        answer(asked, url, { objects, pageSize: options.pageSize })
      );
    },
  });
  return {
    url: `${options.tls ? "https" : "http"}://${server.hostname}:${server.port}`,
    objects,
    requests,
    /** Method and path of every request that changes something. */
    changes: () =>
      requests
        .filter(
          ({ method, path }) =>
            method !== "GET" && !path.endsWith("/subjectaccessreviews") && !path.endsWith("dryRun=All"),
        )
        .map(({ method, path }) => `${method} ${path}`),
    [Symbol.dispose]: () => void server.stop(true),
  };
}

export function status(code: number, message: string): Response {
  return Response.json({ kind: "Status", code, message }, { status: code });
}

function answer(
  { method, path, body }: ApiRequest,
  url: URL,
  state: { objects: Map<string, Any>; pageSize: number | undefined },
): Response {
  const { objects } = state;
  const pathname = decodeURIComponent(url.pathname);
  if (pathname === "/readyz") return new Response("ok");
  if (pathname.endsWith("/subjectaccessreviews"))
    return Response.json({ status: { allowed: false } }, { status: 201 });
  if (url.searchParams.has("dryRun")) return Response.json(body);
  if (method === "POST") return create(objects, pathname, body);
  if (method === "PUT" && !isNamedSo(pathname, body))
    return status(400, "the name of the object does not match the name on the URL");
  if (method === "PUT" && pathname.endsWith("/approval"))
    return approval(objects, pathname.slice(0, -"/approval".length), body);
  const found = objects.get(pathname);
  if (method === "GET" && !found)
    return isCollection(pathname) ? page(objects, url, state.pageSize) : notFound(path);
  if (!found) return notFound(path);
  if (method === "DELETE") objects.delete(pathname);
  if (method === "PUT") objects.set(pathname, body);
  if (method === "PATCH") objects.set(pathname, merged(found, body));
  return Response.json(objects.get(pathname) ?? {});
}

function create(objects: Map<string, Any>, pathname: string, body: Any): Response {
  const path = `${pathname}/${body.metadata?.name}`;
  if (objects.has(path)) return status(409, `${path} already exists`);
  const data = Object.entries<string>(body.stringData ?? {}).map(([key, value]) => [
    key,
    Buffer.from(value).toString("base64"),
  ]);
  objects.set(
    path,
    named(path, {
      ...body,
      ...(data.length > 0 ? { data: { ...body.data, ...Object.fromEntries(data) } } : {}),
    }),
  );
  return Response.json(objects.get(path), { status: 201 });
}

function isNamedSo(pathname: string, body: Any): boolean {
  const name = pathname
    .replace(/\/(approval|status)$/, "")
    .split("/")
    .at(-1);
  return body.metadata?.name === undefined || body.metadata.name === name;
}

/** A CSR is approved or denied only once. */
function approval(objects: Map<string, Any>, pathname: string, body: Any): Response {
  const found = objects.get(pathname);
  if (!found) return notFound(pathname);
  if (found.status?.conditions?.length) return status(409, "the object has been modified");
  objects.set(pathname, { ...found, status: body.status });
  return Response.json(objects.get(pathname));
}

function notFound(path: string) {
  return status(404, `the server could not find ${path}`);
}

/** By the number of parts in the path. For any other path a test answers with `on`. */
function isCollection(pathname: string): boolean {
  const parts = pathname.split("/").filter(Boolean);
  const below = parts.slice(parts[0] === "api" ? 2 : 3);
  return below.length === 1 || (below[0] === "namespaces" && below.length === 3);
}

function page(objects: Map<string, Any>, url: URL, pageSize: number | undefined): Response {
  if (url.searchParams.has("resourceVersionMatch") && !url.searchParams.get("resourceVersion"))
    return status(400, "resourceVersionMatch is forbidden unless resourceVersion is provided");
  const selector = url.searchParams.get("fieldSelector")?.split("=");
  const items = [...objects]
    .filter(([path]) => [collectionOf(path), everywhere(collectionOf(path))].includes(url.pathname))
    .map(([, object]) => object)
    .filter(
      (object) =>
        !selector || selector[0]!.split(".").reduce((part, name) => part?.[name], object) === selector[1],
    );
  const labels = url.searchParams.get("labelSelector")?.split(",") ?? [];
  const chosen = items.filter(({ metadata }) =>
    labels.every((label) => metadata.labels?.[label.split("=")[0]!] === label.split("=")[1]),
  );
  const size = pageSize ?? Number(url.searchParams.get("limit") ?? Number.POSITIVE_INFINITY);
  const start = Number(url.searchParams.get("continue") ?? 0);
  const more = start + size < chosen.length ? { continue: String(start + size) } : {};
  return Response.json({ items: chosen.slice(start, start + size), metadata: more });
}

function collectionOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/"));
}

/** "/api/v1/namespaces/NS/pods" → "/api/v1/pods" */
function everywhere(collection: string): string {
  return collection.replace(/\/namespaces\/[^/]+\//, "/");
}

function named(path: string, object: Any): KubeObject {
  const namespace = /\/namespaces\/([^/]+)\//.exec(path)?.[1];
  const name = path.slice(path.lastIndexOf("/") + 1);
  const own = { name, uid: `uid-of-${name}`, ...(namespace ? { namespace } : {}) };
  return { ...object, metadata: { ...own, resourceVersion: "1", ...object.metadata } };
}

/** RFC 7386. */
function merged(target: Any, patch: Any): Any {
  if (typeof patch !== "object" || patch === null || Array.isArray(patch)) return patch;
  const result = { ...(typeof target === "object" ? target : {}) };
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = merged(result[key], value);
  }
  return result;
}
