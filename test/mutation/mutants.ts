/**
 * Small changes of decisions in a file, one at a time: what a tired person gets wrong. Words are left alone:
 * nothing in a template literal is changed.
 */
import type { Node, SourceFile } from "typescript/unstable/ast";
import * as is from "typescript/unstable/ast/is";

export interface Mutant {
  path: string;
  line: number;
  what: string;
  start: number;
  end: number;
  /** What stands there instead. */
  text: string;
}

/** What a comparison and a connective are turned into. */
const TURNED: Record<string, string> = {
  ...{ "===": "!==", "!==": "===", "<": ">=", ">=": "<", ">": "<=", "<=": ">" },
  ...{ "&&": "||", "||": "&&" },
};

const SOME_OR_ALL = new Map([
  ["some", "every"],
  ["every", "some"],
]);

/** All of a file, in its order. */
export function mutantsOf(file: SourceFile, path: string): Mutant[] {
  const found: Mutant[] = [];
  const walk = (node: Node): undefined => {
    if (is.isTemplateExpression(node) || is.isTypeNode(node) || is.isImportDeclaration(node)) return;
    for (const { of, what, text } of changesOf(node, file)) {
      const start = of.getStart(file);
      found.push({
        path,
        what,
        text,
        start,
        end: of.end,
        line: file.getLineAndCharacterOfPosition(start).line + 1,
      });
    }
    node.forEachChild(walk);
  };
  walk(file);
  return found;
}

/** The file's text with that change. */
export function mutated(text: string, { start, end, text: instead }: Mutant): string {
  return text.slice(0, start) + instead + text.slice(end);
}

interface Change {
  of: Node;
  what: string;
  text: string;
}

/** The changes of one node, without those of its children. */
function changesOf(node: Node, file: SourceFile): Change[] {
  const textOf = (part: Node) => file.text.slice(part.getStart(file), part.end);
  const negated = (part: Node) => `!(${textOf(part)})`;
  if (is.isBinaryExpression(node)) return changesOfBinary(node, textOf);
  if (is.isConditionalExpression(node))
    return isTurnedItself(node.condition, textOf)
      ? []
      : [{ of: node.condition, what: "turned ?:", text: negated(node.condition) }];
  if (is.isIfStatement(node))
    return [
      ...(isTurnedItself(node.expression, textOf)
        ? []
        : [{ of: node.expression, what: "turned if", text: negated(node.expression) }]),
      ...(node.elseStatement ? [] : [{ of: node, what: "dropped if", text: ";" }]),
    ];
  if (is.isPrefixUnaryExpression(node) && textOf(node).startsWith("!"))
    return [{ of: node, what: "dropped !", text: textOf(node.operand) }];
  if (is.isCallExpression(node) && is.isPropertyAccessExpression(node.expression))
    return changesOfCall(node.expression, node, textOf);
  if (is.isArrayLiteralExpression(node) && node.elements.length > 1)
    return node.elements.map((_, index) => {
      const others = node.elements.filter((_, at) => at !== index);
      return { of: node, what: `dropped row ${index + 1}`, text: `[${others.map(textOf).join(", ")}]` };
    });
  return [];
}

/** What it is turned into is the condition turned: the same change would be made twice. */
function isTurnedItself(condition: Node, textOf: (part: Node) => string): boolean {
  if (is.isPrefixUnaryExpression(condition)) return textOf(condition).startsWith("!");
  if (!is.isBinaryExpression(condition)) return false;
  const sign = textOf(condition.operatorToken);
  return sign in TURNED && sign !== "&&" && sign !== "||";
}

function changesOfBinary(
  node: Node & { left: Node; operatorToken: Node; right: Node },
  textOf: (part: Node) => string,
): Change[] {
  const sign = textOf(node.operatorToken);
  const turned = TURNED[sign];
  if (!turned) return [];
  const connects = sign === "&&" || sign === "||";
  return [
    { of: node.operatorToken, what: `${sign} to ${turned}`, text: turned },
    ...(connects
      ? [node.left, node.right].map((part) => ({
          of: node,
          what: `dropped a side of ${sign}`,
          text: `(${textOf(part)})`,
        }))
      : []),
  ];
}

function changesOfCall(
  called: Node & { name: Node; expression: Node },
  call: Node,
  textOf: (part: Node) => string,
): Change[] {
  const name = textOf(called.name);
  const other = SOME_OR_ALL.get(name);
  if (other) return [{ of: called.name, what: `${name} to ${other}`, text: other }];
  return name === "filter" ? [{ of: call, what: "dropped filter", text: textOf(called.expression) }] : [];
}
