// The form that adds an LLM provider: fills in what follows from something else, and never overwrites what was typed.

import { followStream, pauseAfter } from "./stream.js";

/** An answer that does not come within so many milliseconds is asked for again. */
const LONGEST_WAIT = 10_000;
const LOGGED_OUT = "Logged out; shown as before";

const form = document.getElementById("provider-form");
const field = (id) => document.getElementById(id);
const [name, context, url, key] = ["name", "context", "url", "api_key"].map(field);
const submit = field("submit"), reason = field("submit-reason");

/** A context made from a name, as the server makes it. */
function derived(text) {
  const slug = text.normalize("NFKD").toLowerCase().replace(/[\u0300-\u036f]/g, "").replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "");
  return slug ? `/${slug}` : "";
}

let contextIsOwn = context.value !== "" && context.value !== derived(name.value);
context.addEventListener("input", () => { contextIsOwn = context.value !== ""; });
name.addEventListener("input", () => { if (!contextIsOwn) context.value = derived(name.value); });

let urlIsOwn = url.value !== "";
const unlock = field("unlock-url");
unlock.addEventListener("click", () => { url.readOnly = false; unlock.hidden = true; url.focus(); url.select(); });
url.addEventListener("input", () => { urlIsOwn = true; });

function followTemplate() {
  const template = form.querySelector("[name=template]:checked");
  if (!template) return;
  if (!urlIsOwn) {
    url.value = template.dataset.url;
    url.readOnly = template.dataset.url !== "";
    unlock.hidden = !url.readOnly;
  }
  key.required = template.dataset.auth !== "";
}

const show = field("show-key");
show.hidden = false;
show.addEventListener("click", () => {
  const visible = key.type === "password";
  key.type = visible ? "text" : "password";
  show.textContent = visible ? "Hide" : "Show";
  show.setAttribute("aria-pressed", String(visible));
});

function searchable(input, rows) {
  if (!input || !rows) return;
  input.hidden = false;
  input.addEventListener("input", () => {
    const wanted = input.value.toLocaleLowerCase();
    for (const row of rows.children) row.hidden = !row.textContent.toLocaleLowerCase().includes(wanted);
  });
  input.addEventListener("keydown", (event) => { if (event.key === "Enter") event.preventDefault(); });
}
searchable(field("template-search"), field("templates"));

/** Why the gateways may be shown as they were: what the stream says of itself, and what became of a question. */
const troubles = { stream: "", search: "", marks: "" };

function sayTrouble(whose, text) {
  troubles[whose] = text;
  const said = Object.values(troubles).find(Boolean) ?? "";
  const place = field("gateways-live");
  place.hidden = !said;
  place.textContent = said;
}

/** The form as the server makes it now. */
async function ask(query) {
  const answer = await fetch(`/llm-providers/new?${query}`, { signal: AbortSignal.timeout(LONGEST_WAIT) });
  if (answer.redirected) throw new Error(LOGGED_OUT);
  if (!answer.ok) throw new Error(`This pod failed (${answer.status}); trying again`);
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

/** Asks whenever it is called: one question at a time, and again until one was answered that was asked after the last call. */
function asker(whose, work) {
  let wanted = false, asking = false, failures = 0;
  return async () => {
    wanted = true;
    if (asking) return;
    for (asking = true; wanted;) {
      wanted = false;
      try {
        await work();
        failures = 0;
        sayTrouble(whose, "");
      } catch (error) {
        wanted = true;
        failures += 1;
        sayTrouble(whose, error.name === "Error" ? error.message : "This pod does not answer; trying again");
        await new Promise((done) => setTimeout(done, pauseAfter(failures)));
      }
    }
    asking = false;
  };
}

/** Of many gateways the server shows those that match; what is chosen stays. */
function findGateways(input, rows) {
  let waiting;
  const find = asker("search", async () => {
    const found = await ask(`gateway_q=${encodeURIComponent(input.value)}`);
    const kept = [...rows.children].filter((row) => row.querySelector("input").checked);
    const chosen = new Set(kept.map((row) => row.querySelector("input").value));
    const fresh = [...found.querySelectorAll("#gateways > *")].filter((row) => !chosen.has(row.querySelector("input").value));
    for (const row of fresh) row.querySelector("input").checked = false;
    rows.replaceChildren(...kept, ...fresh);
    field("gateways-more").textContent = found.getElementById("gateways-more").textContent;
  });
  input.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(find, 250); });
  input.addEventListener("keydown", (event) => { if (event.key === "Enter") event.preventDefault(); });
}
if (field("gateways")?.dataset.more) findGateways(field("gateway-search"), field("gateways"));
else searchable(field("gateway-search"), field("gateways"));

/** Only the marks of gateways follow what happens meanwhile: never what is typed or chosen. */
function followGateways(rows) {
  const follow = asker("marks", async () => {
    const chosen = [...rows.querySelectorAll("input:checked")].map((input) => `gateway=${encodeURIComponent(input.value)}`);
    const search = encodeURIComponent(field("gateway-search")?.value ?? "");
    const found = await ask([...chosen, `gateway_q=${search}`].join("&"));
    for (const input of rows.querySelectorAll("input")) {
      const fresh = found.querySelector(`#gateways input[value="${CSS.escape(input.value)}"]`);
      if (!fresh) continue;
      input.dataset.offline = fresh.dataset.offline;
      input.closest(".choice").querySelector(".end").replaceWith(fresh.closest(".choice").querySelector(".end"));
    }
    update();
  });
  const say = (text) => sayTrouble("stream", text);
  const events = { changed: follow, away() { say("The database is away"); }, back() { say(""); } };
  // What is typed is kept: whoever was logged out meanwhile logs in when it is submitted.
  followStream(() => "/live", events, say, () => say(LOGGED_OUT));
}
if (field("gateways")) followGateways(field("gateways"));

function missing() {
  if (!form.querySelector("[name=gateways]:checked")) return "Choose at least one gateway.";
  return "";
}

let submitting = false;
function update() {
  const problem = missing();
  submit.disabled = submitting || problem !== "";
  reason.textContent = submitting ? "Adding the provider …" : problem;
  const warning = field("offline-warning");
  if (warning) warning.hidden = !form.querySelector("[name=gateways][data-offline='1']:checked");
}

form.addEventListener("change", () => { followTemplate(); update(); });
form.addEventListener("submit", () => { submitting = true; update(); });
// A page that comes back out of the browser's memory is not submitting any more.
window.addEventListener("pageshow", () => { submitting = false; update(); });

followTemplate();
update();
field("error-summary")?.querySelector("a") && document.querySelector("[aria-invalid=true]")?.focus();
