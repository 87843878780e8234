// The guardrails of a provider: chosen from what all chosen gateways have loaded, each with a form for its parameters.
// What is submitted stands in one field, as JSON; with scripts switched off people write it there themselves.

import { control, element, isSimple } from "./schema-form.js";

/** So long an answer is waited for, in milliseconds. */
const LONGEST_WAIT = 10_000;

const source = document.getElementById("policies");
const form = source.form;
const shown = document.getElementById("guardrails");
const dialog = document.getElementById("guardrail-dialog");
const place = document.getElementById("guardrail-dialog-body");
let chosen = [];
try { chosen = JSON.parse(source.value || "[]"); } catch { chosen = null; }

async function offered() {
  const ids = [...form.querySelectorAll("[name=gateways]:checked")].map((each) => each.value);
  if (!ids.length) return { items: [], silent: [] };
  const query = new URLSearchParams(ids.map((each) => ["gateway", each]));
  const answer = await fetch(`/console/policies?${query}`, { headers: { Accept: "application/json" }, signal: AbortSignal.timeout(LONGEST_WAIT) });
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  return answer.json();
}

function keep() {
  source.value = chosen.length ? JSON.stringify(chosen, null, 2) : "";
  draw();
}

function button(text, label, onclick, disabled = false) {
  return element("button", { type: "button", class: "tiny", "aria-label": `${text} ${label}`, onclick, disabled }, text);
}

function draw() {
  shown.replaceChildren(...chosen.map((each, index) => element("li", { class: "choice" },
    element("span", { class: "text" }, each.name, element("small", {}, [each.version, each.params ? JSON.stringify(each.params) : "no parameters"].filter(Boolean).join(" · "))),
    element("span", { class: "end" },
      button("Edit", each.name, () => edit(index)),
      button("Up", each.name, () => move(index, -1), index === 0),
      button("Down", each.name, () => move(index, 1), index === chosen.length - 1),
      button("Remove", each.name, () => { chosen.splice(index, 1); keep(); })))));
  shown.hidden = chosen.length === 0;
}

function move(index, by) {
  const [each] = chosen.splice(index, 1);
  chosen.splice(index + by, 0, each);
  keep();
}

let openings = 0;

/** Opens the dialog; returns whether it is open since: what is asked for an earlier time must not show in a later one. */
function open() {
  openings += 1;
  const mine = openings;
  place.replaceChildren(element("p", { class: "muted", role: "status" }, "Asking what the gateways have loaded …"));
  dialog.showModal();
  return () => dialog.open && openings === mine;
}

async function choose() {
  const isOpen = open();
  let found, error;
  try { found = await offered(); } catch (failure) { error = failure; }
  if (!isOpen()) return;
  if (error) { place.replaceChildren(element("p", { class: "error", role: "alert" }, `This cannot be shown: ${error.message}. Close and try again.`)); return; }
  if (!found.items.length) {
    const why = found.silent.length ? "A chosen gateway has not announced its policies yet: it was never connected." : "The chosen gateways have no policy in common.";
    place.replaceChildren(element("p", { class: "notice warn" }, form.querySelector("[name=gateways]:checked") ? why : "Choose gateways first: guardrails are what all of them have loaded."));
    return;
  }
  const search = element("input", { type: "search", placeholder: "Search", "aria-label": "Search guardrails" });
  const rows = element("div", { class: "rows" }, ...found.items.map((policy) => element("button", { type: "button", class: "choice", onclick: () => parameters(policy, undefined, null) },
    element("span", { class: "text" }, policy.name, element("small", {}, policy.description || "no description")), element("span", { class: "end muted" }, policy.version))));
  search.addEventListener("input", () => { for (const row of rows.children) row.hidden = !row.textContent.toLowerCase().includes(search.value.toLowerCase()); });
  place.replaceChildren(search, rows);
  search.focus();
}

async function edit(index) {
  const isOpen = open();
  let found = { items: [] };
  try { found = await offered(); } catch { /* Edited as JSON then. */ }
  if (!isOpen()) return;
  const policy = found.items.find((each) => each.name === chosen[index].name) ?? { name: chosen[index].name, version: "", description: "", parameters: {} };
  parameters(policy, chosen[index].params, index);
}

function parameters(policy, value, index) {
  const has = Object.keys(policy.parameters?.properties ?? {}).length > 0;
  const schema = has ? { ...policy.parameters, type: "object" } : {};
  const part = control(schema, value, has && isSimple(schema) ? "" : "Parameters");
  const problem = element("p", { class: "error", role: "alert", hidden: true });
  const made = element("form", { class: "stack", method: "dialog" },
    ...(policy.description ? [element("p", {}, policy.description)] : []), part.node, problem,
    element("div", { class: "actions" }, element("button", { class: "primary" }, index === null ? "Add guardrail" : "Keep"),
      element("button", { type: "button", onclick: () => dialog.close() }, "Cancel")));
  made.addEventListener("submit", (event) => {
    let params;
    try { params = part.read(); } catch (error) { event.preventDefault(); problem.textContent = `This is no JSON: ${error.message}`; problem.hidden = false; return; }
    const entry = { name: policy.name, ...(policy.version ? { version: policy.version.split(".")[0] } : {}) };
    if (params !== undefined && Object.keys(params).length) entry.params = params;
    if (index === null) chosen.push(entry); else chosen[index] = { ...chosen[index], ...entry };
    keep();
  });
  place.replaceChildren(element("h3", {}, `${policy.name} ${policy.version}`), made);
  made.querySelector("input, select, textarea, button")?.focus();
}

if (chosen !== null && Array.isArray(chosen)) {
  document.getElementById("policies-field").hidden = true;
  const add = document.getElementById("add-guardrail");
  add.hidden = false;
  add.addEventListener("click", choose);
  draw();
}
