/** The tokens from which the public half of a lost service-account key is computed. */
import type { Jwt } from "../pki/jwt.ts";

/** Tokens that seem to be of one key, the trusted ones first. */
export interface OldTokens {
  kid: string;
  alg: string;
  tokens: Jwt[];
}
