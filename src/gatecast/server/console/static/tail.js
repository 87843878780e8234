// Follows events: newest first, filtered, paused and resumed without loss, gaps shown as gaps.

import { followStream } from "./stream.js";

const MOST_ROWS = 500;
const rows = document.getElementById("tail-rows");
const names = JSON.parse(rows.dataset.names);
const state = document.getElementById("tail-state");
const pause = document.getElementById("tail-pause");
const empty = document.getElementById("tail-empty");
const command = document.getElementById("tail-command");
const form = document.getElementById("tail-filters");
/** What gateways said of events, by gateway and offset. */
const outcomes = new Map();
/** How far each gateway has confirmed its log, as the stream says. */
const confirmed = {};
/** The last offset that is shown of each gateway: some events come again where a stream goes on. */
let shown = {};
let stop = null;
/** Where the stream goes on: a stream that is paused is closed, and nothing has to be kept meanwhile. */
let position = "";

function say(on, text) { state.dataset.live = on ? "on" : "off"; state.textContent = text; }

function cell(content, label, attributes = {}) {
  const made = document.createElement("td");
  if (label) made.dataset.label = label;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(content);
  return made;
}

function link(href, text) {
  const made = document.createElement("a");
  made.href = href;
  made.textContent = text;
  return made;
}

function chip() {
  const made = document.createElement("span");
  made.className = "chip";
  return made;
}

const tones = { stored: "busy", confirmed: "good", applied: "good", rejected: "bad", undeliverable: "bad", held: "warn" };

function showState(row) {
  const known = outcomes.get(`${row.dataset.gateway} ${row.dataset.offset}`)
    ?? (Number(row.dataset.offset) <= (confirmed[row.dataset.gateway] ?? 0) ? "confirmed" : "stored");
  if (row.dataset.state === known) return;
  row.dataset.state = known;
  const shown = row.querySelector(".chip");
  shown.className = `chip ${tones[known] ?? "quiet"}`;
  shown.textContent = known[0].toUpperCase() + known.slice(1);
}

function row(event) {
  const made = document.createElement("tr");
  const base = `/gateways/${encodeURIComponent(event.gatewayId)}`;
  const time = document.createElement("time");
  time.dateTime = event.recordedAt;
  time.textContent = "now";
  Object.assign(made.dataset, {
    gateway: event.gatewayId, offset: event.offset, type: event.type, action: event.action,
    entity: `${event.entityType} ${event.entityId}`,
  });
  made.append(
    cell(link(base, names[event.gatewayId] ?? event.gatewayId), "", { class: "break" }),
    cell(link(`${base}/events/${event.offset}`, event.offset.toLocaleString("en")), "Offset", { class: "number" }),
    cell(`${event.type} ${event.action}`, "", { class: "break" }),
    cell(`${event.entityType} ${event.entityId}`, "", { class: "break" }),
    cell(chip(), ""),
    cell(time, "", { class: "nowrap" }),
  );
  showState(made);
  return made;
}

function gap(event) {
  const made = document.createElement("tr");
  const whose = event.gatewayId ? ` of ${names[event.gatewayId] ?? event.gatewayId}` : "";
  made.append(cell(`Some events${whose} may be missing here (${event.reason})`, "", { colspan: "6", class: "error" }));
  return made;
}

/** A log that alone cannot be read: its events come when it can be read again. */
function unreadable({ gatewayId, reason }) {
  const name = names[gatewayId] ?? gatewayId;
  const text = reason ? `The log of ${name} cannot be read now (${reason}); its events come later` : `The log of ${name} can be read again`;
  const made = document.createElement("tr");
  made.append(cell(text, "", { colspan: "6", ...(reason ? { class: "error" } : {}) }));
  add(made);
}

function fits(made) {
  if (made.dataset.offset === undefined) return;
  const wanted = new FormData(form);
  made.hidden = ["type", "action", "entity", "state"].some((name) =>
    !made.dataset[name].toLocaleLowerCase().includes(String(wanted.get(name) ?? "").trim().toLocaleLowerCase()));
}

function add(made) {
  fits(made);
  rows.prepend(made);
  while (rows.children.length > MOST_ROWS) rows.lastChild.remove();
  empty.hidden = true;
}

function stand(gateway) {
  if (gateway.deleted) return;
  names[gateway.gatewayId] = gateway.name;
  confirmed[gateway.gatewayId] = gateway.confirmed;
  for (const made of rows.querySelectorAll(`tr[data-gateway="${CSS.escape(gateway.gatewayId)}"]`)) {
    showState(made);
    fits(made);
  }
}

function outcome(said) {
  outcomes.set(`${said.gatewayId} ${said.offset}`, said.kind);
  if (outcomes.size > 2 * MOST_ROWS) outcomes.delete(outcomes.keys().next().value);
  const made = rows.querySelector(`tr[data-gateway="${CSS.escape(said.gatewayId)}"][data-offset="${said.offset}"]`);
  if (!made) return;
  showState(made);
  fits(made);
}

/** What the stream tells. */
const events = {
  recorded(event) {
    if (event.offset <= (shown[event.gatewayId] ?? 0)) return;
    shown[event.gatewayId] = event.offset;
    add(row(event));
  },
  gap(event) {
    shown = {};
    add(gap(event));
  },
  unreadable,
  gateway: stand,
  outcome,
  away({ seconds }) {
    const asOf = new Date(Date.now() - 1000 * seconds);
    say(false, `The database is away; shown as of ${asOf.toLocaleTimeString()}`);
  },
  back() { say(true, "Live"); },
};

function address() {
  const found = new URL(rows.dataset.stream, location.href);
  if (position) found.searchParams.set("position", position);
  return found;
}

function follow() {
  const noting = (act) => (message) => {
    position = message.lastEventId || position;
    act(JSON.parse(message.data));
  };
  const noted = Object.entries(events).map(([kind, act]) => [kind, noting(act)]);
  stop = followStream(address, Object.fromEntries(noted), (text) => say(!text, text ? `${text} …` : "Live"));
}

function writeCommand() {
  const wanted = new FormData(form);
  const quoted = (text) => (/^[\w.:@/-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
  const options = ["type", "action", "entity"].flatMap((name) => {
    const text = String(wanted.get(name) ?? "").trim();
    return text ? [`--${name}`, quoted(text)] : [];
  });
  const gateway = rows.dataset.gateway ? [quoted(rows.dataset.gateway)] : [];
  command.textContent = ["gatecast", "tail", ...gateway, ...options].join(" ");
}

pause.addEventListener("click", () => {
  const paused = pause.getAttribute("aria-pressed") === "false";
  pause.setAttribute("aria-pressed", String(paused));
  pause.textContent = paused ? "Resume" : "Pause";
  if (!paused) return follow();
  stop();
  say(true, "Paused");
});

form.addEventListener("input", () => {
  for (const made of rows.children) fits(made);
  writeCommand();
});
document.getElementById("gateway").addEventListener("change", () => form.submit());
writeCommand();
follow();
