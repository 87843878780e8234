// What every page does in the browser: the theme, the menu, ages that tick, copy buttons, and how live the page is.

import { followChanges } from "./live.js";

const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

/** A duration in its two largest units, as the server writes it. */
export function age(seconds) {
  let left = Math.max(0, Math.floor(seconds));
  for (let i = 0; i < units.length - 1; i++) {
    const [size, unit] = units[i];
    if (left < size) continue;
    const [smaller, smallerUnit] = units[i + 1];
    const rest = Math.floor((left % size) / smaller);
    return `${Math.floor(left / size)} ${unit}` + (rest && size > 60 ? ` ${rest} ${smallerUnit}` : "");
  }
  return `${left} s`;
}

const zoned = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });

const exact = new Intl.DateTimeFormat(undefined, {
  year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3,
});

function tick() {
  for (const time of document.querySelectorAll("time[datetime]")) {
    const instant = new Date(time.dateTime);
    if (time.dataset.exact !== undefined) {
      time.textContent = exact.format(instant);
      time.title = time.dateTime;
      continue;
    }
    time.textContent = `${age((Date.now() - instant) / 1000)} ago`;
    time.title = `${zoned.format(instant)} (${time.dateTime})`;
  }
}

function setUpTheme() {
  const button = document.querySelector("[data-theme-switch]");
  button?.addEventListener("click", () => {
    const dark = document.documentElement.dataset.theme
      ? document.documentElement.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    const next = dark ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    localStorage.setItem("theme", next);
  });
}

function setUpMenu() {
  const side = document.querySelector(".side");
  const button = document.querySelector(".menu-toggle");
  button?.addEventListener("click", () => {
    const open = side.toggleAttribute("data-open");
    button.setAttribute("aria-expanded", String(open));
  });
}

async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  await navigator.clipboard.writeText(source ? source.textContent.trim() : button.dataset.text);
  const said = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = said; }, 1500);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy], [data-text]");
  if (button) copy(button);
  const opener = event.target.closest("[data-dialog]");
  if (opener) document.getElementById(opener.dataset.dialog)?.showModal();
  const closer = event.target.closest("[data-close]");
  if (closer) closer.closest("dialog")?.close();
});

// A destructive action asks for the name of what it destroys.
document.addEventListener("input", (event) => {
  const wanted = event.target.dataset?.confirm;
  if (wanted === undefined) return;
  const submit = event.target.form.querySelector("button[type=submit]");
  submit.disabled = event.target.value !== wanted;
});

setUpTheme();
setUpMenu();
followChanges();
document.addEventListener("htmx:afterSwap", tick);
tick();
setInterval(tick, 1000);
