// The charts of the overview: drawn from what the server has measured, redrawn as it measures on.

const INTERVAL = 15_000;
/** No line is drawn over a longer time without measurements, in seconds. */
const LONGEST_GAP = 60;

/** While there are few measurements so much time is shown, in seconds. */
const SHORTEST = 600;

const seconds = (value) =>
  value >= 60 ? `${Math.round(value / 60)} min` : value >= 1 || value === 0 ? `${+value.toFixed(1)} s` : `${+(value * 1000).toPrecision(2)} ms`;
const rate = (value) => (value >= 100 ? Math.round(value).toLocaleString("en") : `${+value.toFixed(1)}`);

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

/** What each chart shows: of each line its name, its field and the colour of the style sheet. */
const charts = [
  { id: "rate", format: rate, lines: [["published", "recordedPerSecond", "--accent"], ["confirmed", "confirmedPerSecond", "--good"]] },
  { id: "latency", format: seconds, lines: [["half", "confirmedAfterP50", "--accent"], ["99 of 100", "confirmedAfterP99", "--warn"]] },
  { id: "lag", format: seconds, lines: [["oldest unconfirmed event", "lagSeconds", "--bad"]] },
];

const card = document.getElementById("charts");
const state = document.getElementById("charts-state");
let moments = [];
/** How far the server's clock is ahead of this one, in milliseconds. */
let ahead = 0;

/** The last measurement, unless it is too old to tell of now. */
function latest() {
  const last = moments.at(-1);
  return last && Date.now() + ahead - Date.parse(last.at) <= 1000 * LONGEST_GAP ? last : undefined;
}

function summary() {
  if (!moments.length) return "The first measurements come within half a minute.";
  return latest() ? "Measured every 15 seconds." : `Nothing measured since ${new Date(moments.at(-1).at).toLocaleTimeString()}`;
}

/** What a custom property is in the theme of now, as a canvas takes it. */
function colour(name) {
  card.style.outlineColor = `var(${name})`;
  const found = getComputedStyle(card).outlineColor;
  card.style.outlineColor = "";
  return found;
}

/** Times and values for uPlot, with nothing where nothing was measured. */
function columns(fields) {
  const found = [[], ...fields.map(() => [])];
  let before = 0;
  for (const moment of moments) {
    const at = Date.parse(moment.at) / 1000;
    if (before && at - before > LONGEST_GAP) {
      found[0].push(before + 1);
      fields.forEach((_, i) => found[i + 1].push(null));
    }
    found[0].push(at);
    fields.forEach((field, i) => found[i + 1].push(moment[field]));
    before = at;
  }
  return found;
}

function legend(chart, last) {
  const place = document.getElementById(`${chart.id}-legend`);
  place.replaceChildren(...chart.lines.map(([name, field, tone]) => {
    const mark = document.createElement("i"), value = document.createElement("b"), whole = document.createElement("span");
    mark.className = `line ${tone.slice(2)}`;
    const known = last?.[field];
    value.textContent = known === null || known === undefined ? "–" : chart.format(known);
    whole.append(mark, `${name} `, value);
    return whole;
  }));
}

function draw(chart) {
  const place = document.getElementById(`${chart.id}-chart`);
  const now = (Date.now() + ahead) / 1000, begin = moments.length ? Date.parse(moments[0].at) / 1000 : now;
  const axis = { stroke: colour("--muted"), font: "12px system-ui, sans-serif", grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
  const options = {
    width: place.clientWidth, height: 160, legend: { show: false }, cursor: { y: false, drag: { x: false, y: false } },
    scales: { x: { range: () => [Math.min(now - SHORTEST, Math.max(now - 3600, begin)), now] }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
    axes: [
      { ...axis, size: 26, space: 60, values: (_, ticks) => ticks.map((at) => clock.format(at * 1000)) },
      { ...axis, size: 58, space: 36, values: (_, ticks) => ticks.map(chart.format) },
    ],
    series: [{}, ...chart.lines.map(([name, , tone]) => ({ label: name, stroke: colour(tone), width: 1.75, points: { show: moments.length < 2 } }))],
    hooks: { setCursor: [(plot) => legend(chart, plot.cursor.idx === null ? latest() : at(plot, chart))] },
  };
  chart.plot?.destroy();
  chart.plot = new uPlot(options, columns(chart.lines.map(([, field]) => field)), place);
  const last = latest();
  const said = chart.lines.map(([name, field]) => `${name} ${(last?.[field] ?? null) === null ? "unknown" : chart.format(last[field])}`);
  place.setAttribute("role", "img");
  place.setAttribute("aria-label", `Now: ${said.join(", ")}`);
  legend(chart, last);
}

/** The values under the pointer. */
function at(plot, chart) {
  return Object.fromEntries(chart.lines.map(([, field], i) => [field, plot.data[i + 1][plot.cursor.idx]]));
}

function drawAll() {
  if (!card.hidden) for (const chart of charts) draw(chart);
}

/** When they were measured that are drawn. */
let asOf = new Date();

async function refresh() {
  try {
    const answer = await fetch("/console/history", { headers: { Accept: "application/json" }, signal: AbortSignal.timeout(INTERVAL) });
    if (!answer.ok || answer.redirected) throw new Error(String(answer.status));
    moments = (await answer.json()).items;
    card.hidden = false;
    asOf = new Date();
    ahead = Date.parse(answer.headers.get("Date")) - Date.now() || 0;
    state.textContent = summary();
  } catch {
    state.textContent = `Not up to date: as of ${asOf.toLocaleTimeString()}`;
  }
  drawAll();
}

let waiting;
new ResizeObserver(() => { clearTimeout(waiting); waiting = setTimeout(drawAll, 100); }).observe(card);
document.querySelector("[data-theme-switch]")?.addEventListener("click", () => setTimeout(drawAll));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
refresh();
setInterval(refresh, INTERVAL);
