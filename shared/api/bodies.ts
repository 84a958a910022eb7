/** Bodies of answers, whoever gave them. */
import { Fail } from "../fail.ts";
import { strangers } from "../plain.ts";

/** Bytes that are read of a refusal, and of whatever an unverified server says. */
const MOST = 1_000_000;

/** The first bytes of an answer as text; the rest is not read. */
export async function firstOf(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body ?? []) {
    chunks.push(chunk.subarray(0, MOST - size));
    size += chunk.length;
    if (size >= MOST) break;
  }
  return Buffer.concat(chunks).toString();
}

/** Errors: Fail that names the server. */
export function parsed(text: string, server: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new Fail(`${server} answered what is no JSON: "${strangers(text.slice(0, 100))}"`, {
      hint: "is it the API server (curl -k SERVER/version)? What else listens there?",
      cause,
    });
  }
}

/** The API's own sentence; another server's whole answer. */
export function statusMessage(text: string): string | undefined {
  try {
    const message = (JSON.parse(text) as { message?: unknown } | null)?.message;
    return typeof message === "string" ? message : undefined;
  } catch (err) {
    if (err instanceof SyntaxError) return text.trim() || undefined;
    throw err;
  }
}
