#!/usr/bin/env bun
/**
 * RUNBOOK part 0: no old sa.key is left anywhere, but old tokens are. Their public key is computed
 * from them, so that the API server accepts them until part 4 is done. Run it once, on any control
 * plane node; safe to run again. It reads tokens and writes one public key.
 */
import { inOneLine, leftNames, NOBODY } from "../shared/again.ts";
import { readControlPlaneNode } from "../shared/facts/control-plane-node.ts";
import { todosAfterTokenKey } from "../shared/facts/course.ts";
import { otherControlPlanes } from "../shared/facts/other-control-planes.ts";
import { refuseExternalSigner } from "../shared/facts/signed-elsewhere.ts";
import { nodesToSkip } from "../shared/facts/typed-options.ts";
import { writeFile } from "../shared/files/files.ts";
import { begin } from "../shared/files/operator-files.ts";
import { lockNodeShared } from "../shared/node/kept-run.ts";
import { computeKey, copyOfKey, type OldKey } from "../shared/old-sa-key/old-sa-pub.ts";
import {
  collectTokens,
  keyCopies,
  tokensOfLastKey,
  withoutCurrentTokens,
} from "../shared/old-sa-key/old-tokens.ts";
import type { OldTokens } from "../shared/old-sa-key/tokens-of-one-key.ts";
import { urlHost } from "../shared/pki/addresses.ts";
import { currentSaPub, oldSaPub } from "../shared/pki/sa-keys.ts";
import { Progress } from "../shared/progress.ts";
import { answer, done, run, say, step } from "../shared/run.ts";
import { shell } from "../shared/shell-line.ts";

/**
 * No private key comes back, but what it has signed stays valid:
 * 1. Collects old tokens: from Secrets in etcd's data, volumes of this node's pods, a given file.
 * 2. Where all of them verify with the sa.pub of today, there is no old key to look for.
 * 3. Takes those of the key that was in use last; two keys that can both be it are a question.
 * 4. Looks for a copy of its public key; else two signatures give it, by computing.
 * 5. Writes one file beside sa.pub. Part 2 lets the API server accept both keys until part 4.
 */
async function main() {
  const { values } = begin("00-token-key", { options: OPTIONS, usage: USAGE }, lockNodeShared);

  const cp = await readControlPlaneNode(values["etcd-data"]);
  const { facts, data, node, cluster } = cp;
  refuseExternalSigner(facts);
  const pki = facts.certificatesDir;
  const collected = () => collectTokens(data, node.kubelet.podsDir, values["token-file"]);
  const old = await step("0.7 Collect old tokens", () => collect(pki, collected, values.kid));
  if (!old) return done("./bunw scripts/00-assess.ts");
  await step("0.8 Find the key that signed them", () => {
    const key = keptKey(old, pki, values.from) ?? computed(old);
    say(`key ${key.kid}: ${key.proof}`);
    writeFile(oldSaPub(pki), key.pem, {
      mode: 0o644,
      note: "public; the API server checks old tokens with it, nothing signs with it",
    });
  });
  const others = otherControlPlanes(cluster, {
    node,
    without: leftNames(await nodesToSkip(cp, NOBODY)),
  });
  for (const { name, places } of others)
    answer(shell`scp -p ${oldSaPub(pki)} root@${urlHost(places[0] ?? name)}:${pki}/`);
  const carry = others.length > 0 ? [{ command: "the scp lines above" }] : [];
  done(inOneLine(todosAfterTokenKey({ saKeyIsHere: currentSaPub(pki) !== undefined, carry })));
}

/** Undefined if no token is older than the current key. */
function collect(
  pki: string,
  collected: () => ReturnType<typeof collectTokens>,
  kid: string | undefined,
): OldTokens | undefined {
  const { found, counts } = collected();
  const { secrets, encrypted, volumes, file } = counts;
  const unread = encrypted > 0 ? `; ${encrypted} Secrets are encrypted` : "";
  say(`token Secrets in etcd's data: ${secrets}${unread}`);
  say(
    `tokens in volumes of this node's pods: ${volumes}${file > 0 ? `; in the file: ${file}` : ""}`,
  );
  const old = withoutCurrentTokens(found, pki);
  if (found.length > 0 && old.length === 0)
    return void say("all of them verify with the current sa.pub: there is no old key to look for");
  const tokens = tokensOfLastKey(old, kid);
  say(`the key in use last: ${tokens.kid || "(its tokens do not name it)"}, ${tokens.alg}`);
  return tokens;
}

function keptKey(old: OldTokens, pki: string, from: string | undefined): OldKey | undefined {
  for (const { path, pems } of keyCopies(pki, from)) {
    const key = copyOfKey(old, pems);
    say(`${path}: ${key ? "is the old key" : "another key"}`);
    if (key) return key;
  }
  return undefined;
}

const MEGABIT = 1_000_000;

function computed(old: OldTokens): OldKey {
  let progress: Progress | undefined;
  const key = computeKey(old, {
    progress: (done, total) => {
      progress ??= new Progress("greatest common divisor, Mbit", Math.ceil(total / MEGABIT));
      progress.show(Math.ceil(done / MEGABIT));
    },
  });
  progress?.clear();
  return key;
}

const USAGE = `Usage:
    ./bunw scripts/00-token-key.ts [--from FILE] [--token-file FILE] [--kid KID] [--dry-run]
                                   [--etcd-data DIR]

Computes the lost public key of service-account tokens (sa.pub) from two old tokens, and writes it
to pki/sa-old.pub. RSA takes about a minute and half a gigabyte of memory, ECDSA takes no time. Part
2 then gives it to the API server as a second key to check tokens with.

Options:
    --from FILE        A public key that may be the old one: a copy of sa.pub, or published keys
                       (JWKS). It is tried first.
    --token-file FILE  Use more old tokens, one a line, for instance from workers:
                       /var/lib/kubelet/pods/*/volumes/kubernetes.io~projected/*/token
    --kid KID          The key to look for, if the tokens of kube-system do not name it.
    --dry-run          Compute the key, but do not write it.

Exit codes: 0 done, 1 stopped (see the hint), 3 refused: not for this node or cluster`;

const OPTIONS = {
  from: { type: "string", path: "proved" },
  "token-file": { type: "string", path: "proved" },
  kid: { type: "string" },
  "etcd-data": { type: "string", path: "proved" },
  "dry-run": { type: "boolean" },
} as const;

if (import.meta.main) await run(main);
