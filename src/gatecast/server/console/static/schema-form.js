// A form made from a JSON schema, and the value that was typed into it. What it cannot show is edited as JSON.

let number = 0;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === undefined || value === null) continue;
    if (name === "onclick" || name === "onchange" || name === "oninput") made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((each) => each !== null && each !== undefined));
  return made;
}

const typeOf = (schema) => (Array.isArray(schema.type) ? schema.type.find((each) => each !== "null") : schema.type)
  ?? (schema.properties ? "object" : schema.items ? "array" : undefined);

/** Whether a form can show everything that this schema allows. */
export function isSimple(schema) {
  if (typeof schema !== "object" || schema === null || schema.$ref) return false;
  if (schema.enum || schema.const !== undefined) return true;
  if (schema.oneOf || schema.anyOf) return (schema.oneOf ?? schema.anyOf).every(isSimple);
  switch (typeOf(schema)) {
    case "string": case "number": case "integer": case "boolean": return true;
    case "array": return isSimple(schema.items ?? {});
    case "object": return Object.values(schema.properties ?? {}).every(isSimple);
    default: return false;
  }
}

/** A control for the schema: `node` to show, and `read()` for its value; `undefined` means left out. */
export function control(schema, value, label, required = false) {
  if (!isSimple(schema)) return json(schema, value, label);
  if (schema.enum) return choice(schema, value, label, required);
  if (schema.oneOf || schema.anyOf) return alternatives(schema, value, label, required);
  switch (typeOf(schema)) {
    case "boolean": return toggle(schema, value, label);
    case "object": return group(schema, value ?? {}, label);
    case "array": return list(schema, Array.isArray(value) ? value : [], label);
    default: return text(schema, value, label, required);
  }
}

function wrapped(schema, label, required, input, id) {
  const hint = [schema.description, limits(schema)].filter(Boolean).join(" ");
  return element("div", { class: "field" },
    element("label", { for: id }, label, required ? null : element("span", { class: "muted small" }, " optional")),
    input, hint ? element("p", { class: "hint" }, hint) : null);
}

function limits(schema) {
  const said = [];
  if (schema.minimum !== undefined) said.push(`at least ${schema.minimum}`);
  if (schema.maximum !== undefined) said.push(`at most ${schema.maximum}`);
  if (schema.minLength) said.push(`at least ${schema.minLength} characters`);
  if (schema.maxLength) said.push(`at most ${schema.maxLength} characters`);
  if (schema.pattern) said.push(`like ${schema.pattern}`);
  return said.length ? `(${said.join(", ")})` : "";
}

function text(schema, value, label, required) {
  const id = `schema-${++number}`;
  const numeric = ["number", "integer"].includes(typeOf(schema));
  const input = element("input", {
    id, type: numeric ? "number" : "text", required, value: value ?? schema.default ?? "",
    step: typeOf(schema) === "integer" ? "1" : numeric ? "any" : false, min: schema.minimum, max: schema.maximum,
    minlength: schema.minLength, maxlength: schema.maxLength,
  });
  return {
    node: wrapped(schema, label, required, input, id),
    read: () => (input.value === "" ? undefined : numeric ? Number(input.value) : input.value),
  };
}

function choice(schema, value, label, required) {
  const id = `schema-${++number}`;
  const chosen = value ?? schema.default;
  const input = element("select", { id, required },
    required ? null : element("option", { value: "" }, "–"),
    ...schema.enum.map((each, index) => element("option", { value: String(index), selected: each === chosen }, String(each))));
  return { node: wrapped(schema, label, required, input, id), read: () => (input.value === "" ? undefined : schema.enum[Number(input.value)]) };
}

function toggle(schema, value, label) {
  const id = `schema-${++number}`;
  const input = element("input", { id, type: "checkbox", checked: value ?? schema.default ?? false });
  const node = element("div", { class: "field" }, element("label", { class: "choice", for: id }, input,
    element("span", { class: "text" }, label, schema.description ? element("small", {}, schema.description) : null)));
  return { node, read: () => input.checked };
}

function group(schema, value, label) {
  const parts = Object.entries(schema.properties ?? {}).map(([name, each]) =>
    [name, control(each, value[name], each.title ?? name, (schema.required ?? []).includes(name))]);
  const node = element("fieldset", { class: "stack" }, label ? element("legend", {}, label) : null, ...parts.map(([, part]) => part.node));
  return {
    node,
    read() {
      const found = parts.map(([name, part]) => [name, part.read()]).filter(([, each]) => each !== undefined);
      return found.length || !label ? Object.fromEntries(found) : undefined;
    },
  };
}

function list(schema, values, label) {
  const rows = element("div", { class: "stack" });
  let parts = [];
  const add = (value) => {
    const part = control(schema.items ?? {}, value, `${label} ${parts.length + 1}`, true);
    const remove = element("button", { type: "button", class: "tiny danger", onclick: () => { parts = parts.filter((each) => each !== part); row.remove(); } }, "Remove");
    const row = element("div", { class: "with-button" }, part.node, remove);
    parts.push(part);
    rows.append(row);
  };
  values.forEach(add);
  const node = element("fieldset", { class: "stack" }, element("legend", {}, label), schema.description ? element("p", { class: "hint" }, schema.description) : null,
    rows, element("p", {}, element("button", { type: "button", class: "tiny", onclick: () => add(undefined) }, "Add one")));
  return { node, read: () => { const found = parts.map((part) => part.read()).filter((each) => each !== undefined); return found.length ? found : undefined; } };
}

function alternatives(schema, value, label, required) {
  const id = `schema-${++number}`;
  const options = schema.oneOf ?? schema.anyOf;
  const place = element("div", {});
  let current;
  const show = (index, given) => { current = control(options[index], given, options[index].title ?? label, required); place.replaceChildren(current.node); };
  const input = element("select", { id, onchange: () => show(Number(input.value), undefined) },
    ...options.map((each, index) => element("option", { value: String(index) }, each.title ?? typeOf(each) ?? `form ${index + 1}`)));
  const fits = options.findIndex((each) => value !== undefined && (typeOf(each) === (Array.isArray(value) ? "array" : typeof value)));
  input.value = String(Math.max(0, fits));
  show(Math.max(0, fits), value);
  return { node: element("div", { class: "stack" }, wrapped(schema, label, true, input, id), place), read: () => current.read() };
}

function json(schema, value, label) {
  const id = `schema-${++number}`;
  const input = element("textarea", { id, spellcheck: "false", class: "mono" });
  input.value = value === undefined ? "" : JSON.stringify(value, null, 2);
  const node = wrapped({ description: `${schema?.description ?? ""} Written as JSON.` }, label, false, input, id);
  return { node, read: () => (input.value.trim() === "" ? undefined : JSON.parse(input.value)) };
}

export { element };
