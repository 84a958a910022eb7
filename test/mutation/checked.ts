/** TypeScript's own reading of the checkout: its syntax trees, and what it says of a changed file. */
import { join } from "node:path";
import type { SourceFile } from "typescript/unstable/ast";
import { API } from "typescript/unstable/async";

export class Checked implements Disposable {
  readonly #api: API;
  readonly #config: string;
  /** The file that was asked of last: since then, its change may have been taken back. */
  #last: string[] = [];
  readonly home: string;

  constructor(home: string) {
    this.home = home;
    this.#api = new API({ cwd: home });
    this.#config = join(home, "tsconfig.json");
  }

  async #program(changed: string[] = []) {
    const fileChanges = { changed: changed.map((path) => join(this.home, path)) };
    const snapshot = await this.#api.updateSnapshot({ openProjects: [this.#config], fileChanges });
    return snapshot.getProject(this.#config)!.program;
  }

  async trees(paths: readonly string[]): Promise<{ path: string; tree: SourceFile }[]> {
    const program = await this.#program();
    return Promise.all(
      paths.map(async (path) => ({ path, tree: (await program.getSourceFile(join(this.home, path)))! })),
    );
  }

  /** Whether the file, as it is on the disk now, is TypeScript. */
  async isValid(path: string): Promise<boolean> {
    const program = await this.#program([...this.#last, path]);
    this.#last = [path];
    const file = join(this.home, path);
    const said = [
      ...(await program.getSyntacticDiagnostics(file)),
      ...(await program.getSemanticDiagnostics(file)),
    ];
    return said.length === 0;
  }

  [Symbol.dispose]() {
    void this.#api.close();
  }
}
