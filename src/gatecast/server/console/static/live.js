// Keeps what a page shows up to date: its stream tells of changes, and the page asks until it shows the last one.

import { followStream, pauseAfter } from "./stream.js";

/** The part of a page that shows what changes, and asks for itself again when it is outdated. */
const REGION = "[hx-trigger=outdated]";

/** How many changes were told, and how many of them are in what is shown. */
let told = 0;
let shown = 0;
/** How many were told when each request was sent: later ones are not in its answer. */
const toldBefore = new WeakMap();
/** Requests under way. */
const asking = new Set();
/** Questions in a row that had no answer. */
let failures = 0;
let timer = 0;
/** Why nothing may be told of changes; empty while they are. */
let deaf = "";
/** What is shown was true then, when it may be out of date. */
let asOf = null;

/** Says at every live region whether the page is up to date, or since when it may not be. */
function say(text, seconds = 0) {
  asOf = text ? asOf ?? new Date(Date.now() - 1000 * seconds) : null;
  for (const mark of document.querySelectorAll(".live")) {
    mark.dataset.live = text ? "off" : "on";
    mark.textContent = text ? `${text}; shown as of ${asOf.toLocaleTimeString()}` : "Live";
  }
}

/** Asks once more, if a change is not shown; one question at a time, and none while somebody's own is under way. */
function ask() {
  timer = 0;
  const region = document.querySelector(REGION);
  if (!region || shown === told || asking.size) return;
  // No event: what has just been swapped in does not listen yet. What fails is told to `settle`.
  htmx.ajax("GET", region.getAttribute("hx-get"), { source: region }).catch(() => {});
}

function askSoon() { timer ||= setTimeout(ask, pauseAfter(failures)); }

/** Says why changes are not told, or that they are again. */
function sayDeaf(text, seconds = 0) {
  deaf = text;
  if (text || shown === told) say(text, seconds);
}

/** What is shown is out of date. */
function outdate() {
  told += 1;
  askSoon();
}

/** What the stream tells. */
const events = {
  changed: outdate,
  // Nothing was told for a while, but time passes: ages, and what the stream does not watch, may be others. Not under the
  // hands of someone who uses the keyboard there: the focus would be lost.
  alive() { if (!deaf && !document.activeElement?.closest(REGION)) outdate(); },
  away(message) { sayDeaf("The database is away", Number(message.data)); },
  back() { sayDeaf(""); },
};

/** Says what became of a question, and asks again unless the last change is shown. */
function settle(request, answered) {
  asking.delete(request);
  failures = answered ? 0 : failures + 1;
  if (shown < told) askSoon();
  else if (answered) {
    asOf = null;
    say(deaf);
  }
}

/** Keeps the page up to date from now on. */
export function followChanges() {
  const place = document.querySelector("[data-follow]");
  if (!place) return;
  const on = (name, work) => document.addEventListener(`htmx:${name}`, (event) => work(event.detail));
  on("beforeSend", ({ xhr }) => {
    toldBefore.set(xhr, told);
    asking.add(xhr);
  });
  on("beforeSwap", ({ xhr, shouldSwap }) => { if (shouldSwap) shown = toldBefore.get(xhr); });
  on("responseError", ({ xhr }) => say(xhr.status === 503 ? "The database is away" : `This pod failed (${xhr.status}); trying again`));
  for (const name of ["sendError", "timeout"]) on(name, () => say("This pod does not answer; trying again"));
  on("afterRequest", ({ xhr, successful }) => settle(xhr, successful));
  followStream(() => place.dataset.follow, events, (text) => {
    deaf = text;
    // A stream that is open tells of a change at once: the answer to that is up to date.
    if (text) say(text);
  });
}
