// Markdown of an answer as elements: text is only ever set as text, so that nothing a model writes can run.

const FENCE = /^ {0,3}(```+|~~~+)\s*([\w+-]*).*$/;
const HEADING = /^(#{1,4})\s+(.*)$/;
const ITEM = /^\s*(?:[-*+]|(\d+)[.)])\s+(.*)$/;
const INLINE = /(`+)(.+?)\1|\*\*(.+?)\*\*|\*(?!\s)([^*\n]+?)\*/g;

/** Elements of a whole text; an open fence runs to the end. */
export function render(text) {
  const found = document.createDocumentFragment();
  const lines = text.split("\n");
  for (let at = 0; at < lines.length; ) {
    const [element, end] = block(lines, at);
    if (element) found.append(element);
    at = end;
  }
  return found;
}

function block(lines, at) {
  if (lines[at].trim() === "") return [null, at + 1];
  const fence = FENCE.exec(lines[at]);
  if (fence) return code(lines, at + 1, fence[1], fence[2]);
  const heading = HEADING.exec(lines[at]);
  if (heading) return [filled(`h${heading[1].length + 2}`, heading[2]), at + 1];
  if (ITEM.test(lines[at])) return list(lines, at);
  return paragraph(lines, at);
}

function code(lines, at, fence, language) {
  let end = at;
  while (end < lines.length && !lines[end].trimStart().startsWith(fence)) end++;
  const body = document.createElement("code");
  body.textContent = lines.slice(at, end).join("\n");
  const frame = document.createElement("pre");
  if (language) frame.dataset.language = language;
  frame.tabIndex = 0;
  frame.append(body);
  return [frame, end + 1];
}

function list(lines, at) {
  const number = ITEM.exec(lines[at])[1];
  const found = document.createElement(number ? "ol" : "ul");
  if (number) found.start = Number(number);
  let end = at;
  for (let item; end < lines.length && (item = ITEM.exec(lines[end])); end++) {
    if (Boolean(item[1]) !== Boolean(number)) break;
    found.append(filled("li", item[2]));
  }
  return [found, end];
}

function paragraph(lines, at) {
  let end = at + 1;
  while (end < lines.length && continues(lines[end])) end++;
  return [filled("p", lines.slice(at, end).join("\n")), end];
}

function continues(line) {
  return line.trim() !== "" && ![FENCE, HEADING, ITEM].some((start) => start.test(line));
}

function filled(name, text) {
  const element = document.createElement(name);
  let at = 0;
  for (const match of text.matchAll(INLINE)) {
    element.append(text.slice(at, match.index), marked(match));
    at = match.index + match[0].length;
  }
  element.append(text.slice(at));
  return element;
}

function marked([, ticks, code, strong, emphasis]) {
  const element = document.createElement(ticks ? "code" : strong ? "strong" : "em");
  element.textContent = code ?? strong ?? emphasis;
  return element;
}
