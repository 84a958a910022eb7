/**
 * Clients of several languages that connect anew to the API, again and again, each once with the old certificate of
 * the CA as its only trust, and once with the renewed one.
 */
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Fail } from "../../../shared/fail.ts";
import { withCa } from "../../../shared/pki/kubeconfigs.ts";
import { LAB_BUN } from "../machine/disk.ts";
import type { Machine } from "../machine/machine.ts";

export interface Asked {
  /** Milliseconds, when it began to ask. */
  at: number;
  client: string;
  trust: "old" | "renewed";
  ok: boolean;
}

const FOLDER = "/var/log/tls-clients";

/**
 * Keyed by client: a line for $URL, with the CA in $CA (a kubeconfig beside it: $CONF). Exit 0: it trusts the
 * server's certificate.
 */
const LINES: Record<string, string> = {
  "kubectl (Go)": "kubectl --kubeconfig $CONF --request-timeout=5s get --raw /readyz",
  "curl (OpenSSL)": "curl -sS --max-time 5 --cacert $CA $URL",
  Python: `python3 -c 'import ssl,sys,urllib.request as r; r.urlopen(sys.argv[2], timeout=5, context=ssl.create_default_context(cafile=sys.argv[1]))' $CA $URL`,
  Node: `node -e 'require("https").get(process.argv[2],{ca:require("fs").readFileSync(process.argv[1]),timeout:5000},a=>{a.resume()}).on("error",()=>process.exit(1))' $CA $URL`,
  "Bun (BoringSSL)": `${LAB_BUN} -e 'await fetch(process.argv[2],{tls:{ca:await Bun.file(process.argv[1]).text()},signal:AbortSignal.timeout(5000)})' $CA $URL`,
  Java: `{ test -e Ask.class || javac Ask.java; } && java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp . Ask $CA $URL`,
};

/** What a line needs that is not its first word. */
const NEEDS: Record<string, string> = { Java: "javac" };

/** Where this machine has them: the lab's nodes have its /usr. */
const FOUND = Object.entries(LINES).filter(([client, line]) => {
  const program = NEEDS[client] ?? line.split(" ")[0]!;
  return ["kubectl", LAB_BUN].includes(program) || existsSync(`/usr/bin/${program}`);
});
export const CLIENTS = FOUND.map(([client]) => client);

/** PKIX does not look at the dates of the certificate that is trusted by itself (RFC 5280 6.1.1 d). */
export const LOOKS_AT_NO_DATES = ["Java"];

/** All of them, one after the other, until it is stopped; both CAs in PEM. */
export function askEverySecond(node: Machine, cas: Record<Asked["trust"], string>) {
  const folder = node.path(FOLDER);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  copyFileSync(join(import.meta.dir, "Ask.java"), `${folder}/Ask.java`);
  const admin = readFileSync(node.path("/etc/kubernetes/admin.conf"), "utf8");
  for (const [trust, pem] of Object.entries(cas)) {
    writeFileSync(`${folder}/${trust}.crt`, pem);
    writeFileSync(`${folder}/${trust}.conf`, withCa(admin, pem)!);
  }
  const each = FOUND.map(
    ([client, line]) =>
      `at=$(date +%s%3N); ${line} >/dev/null 2>>errors; echo "$at $trust $? ${client}" >>asked`,
  );
  const loop = [
    `cd ${FOLDER}; export HOME=/root URL=https://${node.ip}:6443/readyz`,
    "until test -e stop; do for trust in old renewed; do CA=$trust.crt; CONF=$trust.conf",
    ...each,
    "done; sleep 1; done",
  ].join("\n");
  const ended = node.run(["bash", "-c", loop]);
  return {
    async stop(): Promise<Asked[]> {
      writeFileSync(`${folder}/stop`, "");
      const { exitCode, stderr } = await ended;
      if (exitCode !== 0)
        throw new Fail(`The clients on ${node.name} ended early: ${stderr.trim()}`, {
          hint: "run the rehearsal again",
        });
      return readFileSync(`${folder}/asked`, "utf8")
        .trim()
        .split("\n")
        .map((line) => {
          const [at, trust, exit, ...client] = line.split(" ");
          return {
            at: Number(at),
            trust: trust as Asked["trust"],
            ok: exit === "0",
            client: client.join(" "),
          };
        });
    },
  };
}
