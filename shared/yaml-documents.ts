/**
 * The documents of a YAML text that anybody may have written, at a price that grows with its size alone. Nothing is nested
 * deeper than any object of Kubernetes is, and no key is a list or a mapping: Kubernetes refuses these keys (sigs.k8s.io/yaml
 * makes JSON of a text), and the library would write out each again and again. The library prints nothing.
 */
import {
  Composer,
  type Document,
  isAlias,
  isCollection,
  LineCounter,
  type ParsedNode,
  type ParseOptions,
  Parser,
  type SchemaOptions,
  visit,
  YAMLParseError,
} from "yaml";

/** Levels of lists and mappings. The schema of a CustomResourceDefinition has about forty. */
const DEEPEST = 100;

type ErrorCode = YAMLParseError["code"];

const errorAt = (offset: number, code: ErrorCode, message: string) =>
  new YAMLParseError([offset, offset + 1], code, message);

/** Looks how deep it is before each token: what is nested is made to objects only at the end of a document. */
class ShallowParser extends Parser {
  override *next(source: string) {
    if (this.stack.length > DEEPEST + 1)
      throw errorAt(this.offset, "RESOURCE_EXHAUSTION", `More than ${DEEPEST} levels of lists and mappings`);
    yield* super.next(source);
  }
}

type YamlDocument = Document.Parsed<ParsedNode>;

/**
 * In the text's order; one at least. Errors: YAMLParseError, which says line and column, when it comes to the document that
 * has it.
 */
export function* documentsOf(
  text: string,
  options: ParseOptions & SchemaOptions,
): Generator<YamlDocument, void> {
  const lines = new LineCounter();
  const parser = new ShallowParser(lines.addNewLine);
  const composer = new Composer<ParsedNode>({ ...options, prettyErrors: false, logLevel: "error" });
  try {
    for (const document of composer.compose(parser.parse(text), true, text.length)) {
      const error = document.errors[0] ?? keyThatIsNone(document);
      if (error) throw error;
      yield document;
    }
  } catch (err) {
    if (err instanceof YAMLParseError) addPlace(err, lines);
    throw err;
  }
}

/** To the first error alone: a text can have one a letter. */
function addPlace(error: YAMLParseError, lines: LineCounter) {
  const { line, col } = lines.linePos(error.pos[0]);
  error.message += ` at line ${line}, column ${col}`;
}

/** An alias stands for the last node before it that has its name. */
function keyThatIsNone(document: YamlDocument): YAMLParseError | undefined {
  const collections = new Map<string, boolean>();
  let found: YAMLParseError | undefined;
  visit(document, {
    Pair(_, { key }) {
      const isNone = isCollection(key) || (isAlias(key) && collections.get(key.source) === true);
      if (!isNone) return undefined;
      found = errorAt(key.range?.[0] ?? 0, "NON_STRING_KEY", "A key is a list or a mapping");
      return visit.BREAK;
    },
    Value(_, node) {
      if (node.anchor) collections.set(node.anchor, isCollection(node));
    },
  });
  return found;
}
