/**
 * A small client for the Kubernetes API on Bun's fetch: JSON in, JSON out, a client certificate or a token.
 */
import { Fail } from "../fail.ts";
import { refuseInClear } from "../pki/addresses.ts";
import type { Kubeconfig } from "../pki/kubeconfigs.ts";
import { fetchDirectly, trusting } from "../pki/served.ts";
import { told } from "../this-run.ts";
import { answered } from "../wait-for.ts";
import { firstBytesText, NO_ANSWER_HINT, parseJson, refusal, unlessRefused } from "./api-error.ts";
import { type KubeObject, withQuery } from "./kube-object.ts";

interface Page<T> {
  items: T[] | null;
  metadata: { continue?: string; resourceVersion: string };
}

/** Milliseconds that a question may take. */
const READ_TIMEOUT = 20_000;

/**
 * The same for a change. A webhook may take 30 s, and several come one after the other; after 60 s the
 * API server answers in any case (--request-timeout), and names the webhook. Who hangs up before does not
 * learn its name.
 */
const WRITE_TIMEOUT = 65_000;

/**
 * Accepts what client-go accepts: not everything is plain JSON, the published keys are
 * application/jwk-set+json. No compression: it costs the API server time, and scripts run beside it. Audit
 * logs and managedFields name the agent.
 */
const HEADERS = {
  Accept: "application/json, */*",
  "Accept-Encoding": "identity",
  "User-Agent": "kube-pki-repair",
};

/** Bytes that are read of a kubelet's answer: metrics of all probes of the largest node are a tenth of it. */
const KUBELETS = 16 * 2 ** 20;

const PAGE = 500;

export class KubeApi {
  readonly server: string;
  readonly #tls: Bun.TLSOptions;
  readonly #headers: Record<string, string>;
  #readTimeout = READ_TIMEOUT;

  /** Errors: Fail if there is no CA to verify the server with; Refused where a token would go there in clear. */
  constructor(options: {
    server: string;
    ca?: string | undefined;
    cert?: string | undefined;
    key?: string | undefined;
    token?: string | undefined;
    headers?: Record<string, string>;
  }) {
    const { server, ca, cert, key, token, headers } = options;
    this.server = server.replace(/\/$/, "");
    if (!ca?.includes("-----BEGIN CERTIFICATE-----"))
      throw new Fail(`There is no CA to verify "${this.server}" with`, {
        hint: "look at certificate-authority-data in the kubeconfig (./bunw scripts/00-assess.ts names the file). This kit asks only servers that it can verify",
      });
    if (token) refuseInClear(this.server);
    this.#tls = { ...trusting(ca), ...(cert && key ? { cert, key } : {}) };
    this.#headers = { ...headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  }

  /** The client for a kubeconfig; `server` replaces the kubeconfig's own. */
  static from(kubeconfig: Kubeconfig, server?: string): KubeApi {
    const { caPem: ca, clientCertPem: cert, clientKeyPem: key, token } = kubeconfig;
    const to = server ?? kubeconfig.server;
    refuseInClear(to);
    return new KubeApi({ server: to, ca, cert, key, token });
  }

  /** Each of its questions has these milliseconds. */
  within(milliseconds: number): this {
    this.#readTimeout = milliseconds;
    return this;
  }

  /** One request. Errors: ApiError when the API says no; Fail when it does not answer. */
  async request<T>(
    method: string,
    path: string,
    body?: unknown,
    contentType = "application/json",
  ): Promise<T> {
    const response = await this.#fetch(method, path, { body, contentType });
    const text = await this.#text(response);
    if (!response.ok) throw refusal(response.status, text, `${method} ${path}`);
    if (isChange(method, path)) told({ what: "object", verb: method, path: path.replace(/\?.*/, "") });
    return (text.startsWith("{") || text.startsWith("[") ? parseJson(text, this.server) : text) as T;
  }

  get<T = KubeObject>(path: string) {
    return this.request<T>("GET", path);
  }

  find<T = KubeObject>(path: string): Promise<T | undefined> {
    return unlessRefused([404], () => this.get<T>(path));
  }

  async configMap(namespace: string, name: string): Promise<Record<string, string> | undefined> {
    const path = `/api/v1/namespaces/${namespace}/configmaps/${encodeURIComponent(name)}`;
    const map = await this.find<{ data?: Record<string, string> }>(path);
    return map && (map.data ?? {});
  }

  /**
   * A kubelet's answer (metrics, logs, health). Whoever owns that node writes it (evidence/sources.ts), so it is cut
   * where it is too long. Errors: as `request`.
   */
  async ofKubelet(path: string): Promise<string> {
    const response = await this.#fetch("GET", path);
    const text = await answered(firstBytesText(response, KUBELETS), this.server, NO_ANSWER_HINT);
    if (!response.ok) throw refusal(response.status, text, `GET ${path}`);
    return text;
  }

  /**
   * Pages of 500, so that a large collection is never in memory as a whole; the next one is fetched meanwhile. All
   * are of one moment, `version`. Errors: ApiError 410 if reading took so long (minutes) that the API server no
   * longer has it.
   */
  async *pages<T = KubeObject>(path: string): AsyncGenerator<{ items: T[]; version: string }> {
    for (let next: Promise<Page<T>> | undefined = this.#page<T>(path, ""); next; ) {
      const { items, metadata }: Page<T> = await next;
      next = metadata.continue ? this.#page<T>(path, metadata.continue) : undefined;
      yield { items: items ?? [], version: metadata.resourceVersion };
    }
  }

  /** An error is thrown only when this page is reached. */
  #page<T>(path: string, token: string): Promise<Page<T>> {
    const next = token && `&continue=${encodeURIComponent(token)}`;
    const page = this.get<Page<T>>(withQuery(path, `limit=${PAGE}${next}`));
    void Promise.allSettled([page]);
    return page;
  }

  async *items<T = KubeObject>(path: string): AsyncGenerator<T> {
    for await (const { items } of this.pages<T>(path)) yield* items;
  }

  /** All items of a collection at once; for collections that stay small even in large clusters. */
  async list<T = KubeObject>(path: string): Promise<T[]> {
    return await Array.fromAsync(this.items<T>(path));
  }

  /** One JSON object a line; a line that was cut off is dropped. Errors: as `request`. */
  async *stream<T>(path: string, signal: AbortSignal): AsyncGenerator<T> {
    const response = await this.#fetch("GET", path, { signal });
    if (!response.ok || !response.body)
      throw refusal(response.status, await this.#text(response), `GET ${path}`);
    const decoder = new TextDecoder();
    let rest = "";
    for await (const chunk of response.body) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = lines.pop()!;
      for (const line of lines) if (line) yield parseJson(line, this.server) as T;
    }
  }

  create<T = KubeObject>(path: string, object: unknown) {
    return this.request<T>("POST", path, object);
  }

  replace<T = KubeObject>(path: string, object: unknown) {
    return this.request<T>("PUT", path, object);
  }

  patch<T = KubeObject>(path: string, body: unknown) {
    return this.request<T>("PATCH", path, body, "application/merge-patch+json");
  }

  delete(path: string, options: unknown = {}) {
    return this.request<unknown>("DELETE", path, options);
  }

  /**
   * The server has proved its certificate and answered; the answer is not read. Errors: Fail if it does not.
   */
  async reach(path: string) {
    const response = await this.#fetch("GET", path);
    await response.body?.cancel();
  }

  /** Whether `/readyz` says ok. Errors: as `request`. */
  async ready(): Promise<boolean> {
    return (await this.get<string>("/readyz")) === "ok";
  }

  #text(response: Response): Promise<string> {
    return answered(response.ok ? response.text() : firstBytesText(response), this.server, NO_ANSWER_HINT);
  }

  #fetch(
    method: string,
    path: string,
    { body, contentType = "", signal }: { body?: unknown; contentType?: string; signal?: AbortSignal } = {},
  ) {
    const ends = signal ?? AbortSignal.timeout(method === "GET" ? this.#readTimeout : WRITE_TIMEOUT);
    const type = body === undefined ? {} : { "Content-Type": contentType };
    const request = {
      ...{ method, signal: ends, tls: this.#tls, headers: { ...HEADERS, ...type, ...this.#headers } },
      ...(body !== undefined && { body: JSON.stringify(body) }),
      // the API server sends nobody elsewhere; a kubelet behind it may try, and only this server is verified
      redirect: "manual" as const,
    };
    return answered(fetchDirectly(this.server + path, request), this.server, NO_ANSWER_HINT);
  }
}

/** Reviews, trials and short-lived tokens are asked for with POST, and nothing is stored. */
function isChange(method: string, path: string): boolean {
  return method !== "GET" && !/reviews$|\/token$|[?&]dryRun=All/.test(path);
}
