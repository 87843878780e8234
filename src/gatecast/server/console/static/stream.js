// Follows a stream of the server for as long as the page wants: whatever ends it, and when it falls silent.

/** The server says something every 15 seconds; after so much silence it is not there any more, in milliseconds. */
const LONGEST_SILENCE = 40_000;

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 8_000;

/** How long to wait after so many failures in a row, in milliseconds. */
export function pauseAfter(failures) {
  return failures ? Math.min(FIRST_PAUSE * 2 ** (failures - 1), LONGEST_PAUSE) : 0;
}

async function checkLogin(loggedOut) {
  const answer = await fetch("/settings", { method: "HEAD", headers: { "HX-Request": "true" } }).catch(() => null);
  if (answer?.status === 401) loggedOut();
}

/**
 * Follows the stream at `address()`. `events` are what to do with a message, by its kind; `say` is told an empty text
 * when the stream is open, and otherwise what is wrong. Whoever was logged out meanwhile logs in again and comes back to
 * the page, unless `loggedOut` does something else. Returns what ends it.
 */
export function followStream(address, events, say, loggedOut = () => location.reload()) {
  let source;
  let timer;
  let failures = 0;

  function later(work, pause) {
    clearTimeout(timer);
    timer = setTimeout(work, pause);
  }

  function fail(text) {
    source.close();
    failures += 1;
    say(text);
    checkLogin(loggedOut);
    later(open, pauseAfter(failures));
  }

  function hear() { later(() => fail("Nothing is heard from this pod"), LONGEST_SILENCE); }

  function open() {
    source = new EventSource(address());
    hear();
    source.addEventListener("open", () => {
      failures = 0;
      hear();
      say("");
    });
    source.addEventListener("error", () => fail("Connecting again"));
    for (const [kind, act] of Object.entries({ alive() {}, ...events })) {
      source.addEventListener(kind, (message) => {
        hear();
        act(message);
      });
    }
  }

  open();
  return () => {
    clearTimeout(timer);
    source.close();
  };
}
