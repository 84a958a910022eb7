/** Bodies of answers, from the API server or whatever else answers. */
import { Fail } from "../fail.ts";
import { orUndefined } from "../pki/certificate.ts";
import { strangers } from "../plain.ts";

/** How many bytes are read of a refusal. */
const MOST = 1_000_000;

/** The first bytes of an answer as text, at most `most`; the rest is not read. */
export async function firstOf(response: Response, most = MOST): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body ?? []) {
    chunks.push(chunk.subarray(0, most - size));
    size += chunk.length;
    if (size >= most) break;
  }
  return Buffer.concat(chunks).toString();
}

/** Errors: Fail that names the server. */
export function parsed(text: string, server: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new Fail(`${server} did not answer with JSON: "${strangers(text.slice(0, 100))}"`, {
      hint: "is it the API server (curl -k SERVER/version), or does something else listen there?",
      cause,
    });
  }
}

/** The API's own sentence; of the page of its health checks what fails; if it is another server: its whole answer. */
export function statusMessage(text: string): string | undefined {
  const failing = [...text.matchAll(/^\[-\](.+)$/gm)].map(([, check]) => check);
  if (failing.length > 0) return `not ready: ${failing.join(", ")}`;
  const answer = orUndefined(() => JSON.parse(text) as { message?: unknown } | null);
  if (answer === undefined) return text.trim() || undefined;
  return typeof answer?.message === "string" ? answer.message : undefined;
}
