/** A node as its operator reaches it, from the machine that has ssh. */
/** A node as its operator reaches it. */
export interface Reached {
  /** The Node's name; of the first one, until a plan has said it, the destination as it was typed. */
  name: string;
  /** The destination for ssh: an address, the operator's own name for it, or a placeholder such as ADDRESS-OF-w1. */
  address: string;
  /** The user that logs in: root, or a user who may run sudo on the node without a password. */
  user: string;
  /** Host keys are compared with that of this name (HostKeyAlias in ssh_config(5)). Unset: with that of the address. */
  alias?: string | undefined;
  /** This machine: no ssh. */
  isHere?: true | undefined;
  /** Where the kit lies. */
  kit: string;
}
