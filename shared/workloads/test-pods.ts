/** The test pods of part 4 (canaries.ts), whichever node made them. */
import { podsPath } from "../api/kube-object.ts";

export const TEST_PODS = podsPath("kube-system", "kube-pki-repair=canary");
