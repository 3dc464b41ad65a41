// What a page does beyond its HTML: times in the reader's zone, and jobs that move while they are looked at. Without it
// every page still says all it has, as of when it was loaded.
"use strict";

const shown = { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" };
const thisYear = new Intl.DateTimeFormat(undefined, shown);
const otherYear = new Intl.DateTimeFormat(undefined, { ...shown, year: "numeric" });

function showTimes(within) {
  for (const time of within.querySelectorAll("time[datetime]")) {
    const date = new Date(time.dateTime);
    if (!Number.isNaN(date.valueOf())) {
      const isRecent = date.getFullYear() === new Date().getFullYear();
      time.textContent = (isRecent ? thisYear : otherYear).format(date);
      time.title = time.dateTime;
    }
  }
}

// What a screen reader hears: not more often than every 20 seconds, but for ends.
const announcer = document.getElementById("announce");
let announced = Date.now();
function announce(text, atOnce) {
  if (atOnce || Date.now() - announced > 20000) {
    announced = Date.now();
    announcer.textContent = text;
  }
}

function showJob(element, job) {
  for (const field of element.querySelectorAll("[data-field]")) {
    const text = job[field.dataset.field];
    if (typeof text === "string" && field.textContent !== text) field.textContent = text;
  }
  const status = element.querySelector("[data-live-status]");
  if (status) status.className = `status ${job.status}`;
  const bar = element.querySelector("[data-bar]");
  if (bar && job.files > 0) {
    bar.max = job.files;
    bar.value = job.done;
  } else if (bar && !job.ended && job.status !== "queued") {
    bar.removeAttribute("value");
  }
  for (const word of element.querySelectorAll("[data-when-running]")) word.hidden = job.ended || job.left === "";
  const label = element.querySelector("[data-time-label]");
  if (label) label.textContent = job.ended ? "scoring" : "left";
}

// The parts that are more than texts come from the page itself, as it is now.
let loading = false;
async function loadParts() {
  if (loading) return;
  loading = true;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-part]")) {
      const now = page.querySelector(`[data-part="${part.dataset.part}"]`);
      // What somebody is using stays until they have left it.
      if (now && !part.contains(document.activeElement) && !part.querySelector("details[open]")) {
        const kept = document.adoptNode(now);
        showTimes(kept);
        part.replaceWith(kept);
      }
    }
  } finally {
    loading = false;
  }
}

let source;
let partsAt = 0;
const known = new Map();

function showAll(items) {
  const isList = document.querySelector("article[data-job]") === null;
  const shown = new Map();
  for (const element of document.querySelectorAll("[data-job]")) shown.set(element.dataset.job, element);
  for (const job of items) {
    const element = shown.get(job.name);
    if (!element) continue;
    showJob(element, job);
    const before = known.get(job.name);
    if (before && before.status !== job.status) announce(`Job ${job.name}: ${job.word}`, true);
    else if (!isList && !job.ended) announce(`${job.percent || job.word}${job.left ? `, ${job.left} left` : ""}`, false);
    known.set(job.name, job);
  }
  const newer = document.getElementById("newer");
  if (newer) newer.hidden = items.every((job) => shown.has(job.name)) && items.length === shown.size;
  else if (isList && shown.size === 0 && items.length > 0) location.reload();
  if (isList) return;
  const job = items[0];
  if (job && job.ended) {
    stop();
    document.body.removeAttribute("data-live");
    loadParts();
  } else if (Date.now() - partsAt > 2000) {
    partsAt = Date.now();
    loadParts();
  }
}

function stop() {
  if (source) source.close();
  source = undefined;
}

function follow() {
  const address = document.body.dataset.live;
  if (!address || source || document.hidden) return;
  const notice = document.getElementById("connection");
  const tell = (text) => {
    if (notice) {
      notice.textContent = text;
      notice.hidden = text === "";
    }
  };
  source = new EventSource(address);
  source.addEventListener("jobs", (event) => {
    tell("");
    showAll(JSON.parse(event.data).items);
  });
  source.addEventListener("error", () => {
    if (source && source.readyState === EventSource.CLOSED) {
      stop();
      tell("This page is not kept up to date any more. Load it again.");
    } else {
      tell("The host does not answer; trying again.");
    }
  });
}

showTimes(document);
for (const element of document.querySelectorAll("[data-job]")) {
  const status = element.querySelector("[data-live-status]");
  if (status) known.set(element.dataset.job, { status: status.className.split(" ")[1] });
}
follow();
// A page that nobody sees holds no connection.
document.addEventListener("visibilitychange", () => (document.hidden ? stop() : follow()));
window.addEventListener("pagehide", stop);
