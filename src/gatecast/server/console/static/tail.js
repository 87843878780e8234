// Follows events: newest first, paused and resumed without loss, gaps shown as gaps.

const MOST_ROWS = 500;
const rows = document.getElementById("tail-rows");
const names = JSON.parse(rows.dataset.names);
const state = document.getElementById("tail-state");
const pause = document.getElementById("tail-pause");
const contains = document.getElementById("contains");
const empty = document.getElementById("tail-empty");
let waiting = [];
let paused = false;

function say(on, text) { state.dataset.live = on ? "on" : "off"; state.textContent = text; }

function cell(text, attributes = {}) {
  const made = document.createElement("td");
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(text);
  return made;
}

function link(href, text) {
  const made = document.createElement("a");
  made.href = href;
  made.textContent = text;
  return made;
}

function row(event) {
  const made = document.createElement("tr");
  const base = `/gateways/${encodeURIComponent(event.gatewayId)}`;
  const time = document.createElement("time");
  time.dateTime = event.recordedAt;
  time.textContent = "now";
  made.append(
    cell(link(base, names[event.gatewayId] ?? event.gatewayId), { class: "break" }),
    cell(link(`${base}/events/${event.offset}`, event.offset.toLocaleString("en")), { class: "number" }),
    cell(`${event.type} ${event.action}`, { class: "break" }),
    cell(`${event.entityType} ${event.entityId}`, { class: "break" }),
    cell(time, { class: "nowrap" }),
  );
  return made;
}

function gap(event) {
  const made = document.createElement("tr");
  made.append(cell(`Some events are missing here (${event.reason})`, { colspan: "5", class: "error" }));
  return made;
}

function fits(made) { made.hidden = !made.textContent.toLocaleLowerCase().includes(contains.value.toLocaleLowerCase()); }

function add(made) {
  if (paused) { waiting.push(made); pause.textContent = `Resume (${waiting.length})`; return; }
  fits(made);
  rows.prepend(made);
  while (rows.children.length > MOST_ROWS) rows.lastChild.remove();
  empty.hidden = true;
}

const source = new EventSource(rows.dataset.stream);
source.addEventListener("open", () => say(true, paused ? "Paused" : "Live"));
source.addEventListener("error", () => say(false, "Connecting again …"));
source.addEventListener("recorded", (message) => add(row(JSON.parse(message.data))));
source.addEventListener("gap", (message) => add(gap(JSON.parse(message.data))));

pause.addEventListener("click", () => {
  paused = !paused;
  pause.setAttribute("aria-pressed", String(paused));
  pause.textContent = paused ? "Resume" : "Pause";
  say(true, paused ? "Paused" : "Live");
  if (!paused) { const held = waiting; waiting = []; held.forEach(add); }
});
contains.addEventListener("input", () => { for (const made of rows.children) fits(made); });
document.getElementById("gateway").addEventListener("change", (event) => event.target.form.submit());
