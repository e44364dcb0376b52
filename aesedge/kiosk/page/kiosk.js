// The page of `aesedge kiosk`, a machine of states:
// attract → live → counting → looking → score → words → thanks → attract, and failsafe from anywhere, back by itself.
// Times are taken from performance.now(), which runs on when the clock is set back. Nothing is stored.

import { ask, Unreadable } from "./ask.js";
import { Camera } from "./camera.js";

const MOST_SIDE = 1280;
const BEAT_MS = 1000;
const FOLDER_BEAT_MS = 400;
const WARN_S = 20; // between the question whether anybody is there and starting over
const THANKS_MS = 3000;
const SORRY_MS = 4000;
const LOST_BEATS = 3;
const LONG = 420; // characters
const RELOAD_MS = 24 * 3600 * 1000;
const TROUBLES = ["refused", "missing", "unplugged", "asleep", "folderMissing"];
const WAITING = ["starting", "attract", "live", "counting", ...TROUBLES]; // without a photo
const find = (id) => document.getElementById(id);

// Of each state: words of title and lead, and its buttons as [word, what it does].
const SCREENS = {
  starting: {},
  attract: { primary: ["start", () => show("live")] },
  live: { primary: ["shoot", count], secondary: ["back", home], idle: true },
  counting: { secondary: ["stop", () => show("live")] },
  looking: { secondary: ["again", again] },
  score: { primary: ["again", again], secondary: ["done", thank] },
  words: { primary: ["again", again], secondary: ["done", thank] },
  thanks: {},
  failsafe: {},
  unreadable: {},
  ...Object.fromEntries(TROUBLES.map((word) => [word, {}])),
};

let settings;
let words;
let language;
let camera = null;
let state = "";
let timers = [];
let asking = null; // aborts the question under way
let complete = false; // the answer is whole
let lastTouch = 0;
let lostBeats = 0;
let ready = false;
let folderThere = true;
let photoNumber = null;

const text = (word) => words[language][word];

function show(next) {
  timers.forEach(clearTimeout);
  timers = [];
  state = next;
  document.body.dataset.state = next;
  for (const dialog of [find("choose"), find("still")]) if (dialog.open) dialog.close();
  lastTouch = performance.now();
  const isResult = ["score", "words"].includes(next);
  const isPhoto = isResult || next === "looking";
  find("photo").hidden = !isPhoto;
  find("video").hidden = isPhoto || !camera;
  find("result").hidden = !isResult;
  find("waiting").hidden = next !== "looking" && next !== "starting";
  find("count").textContent = "";
  if (next !== "attract") find("notice").hidden = true;
  if (!isPhoto) forget();
  write();
  const button = [find("primary"), find("secondary")].find((one) => !one.hidden);
  (button ?? find("title")).focus({ preventScroll: true });
}

// All texts of the screen, in the language of the moment.
function write() {
  const screen = SCREENS[state];
  const inFolder = settings.folder && state === "attract" ? "attractFolder" : state;
  const title = { score: "result", words: "result" }[state] ?? inFolder;
  const passed = settings.passed || settings.folder;
  const lead = state === "thanks" && passed ? "thanksLeadPassed" : state === "unreadable" ? "failsafeLead" : `${inFolder}Lead`;
  document.documentElement.lang = language;
  document.querySelectorAll("[data-text]").forEach((one) => { one.textContent = text(one.dataset.text); });
  find("title").textContent = text(title);
  find("lead").textContent = words[language][lead] ?? "";
  find("lead").hidden = !words[language][lead];
  for (const id of ["primary", "secondary"]) {
    const button = settings.folder && state === "attract" ? null : screen[id];
    find(id).hidden = !button;
    if (button) find(id).textContent = text(button[0]);
  }
  find("photo").setAttribute("aria-label", text("photo"));
  find("of").textContent = text("of");
  find("opinion").textContent = text("opinion");
  find("foreign").textContent = text("foreign");
  find("foreign").hidden = language === "en";
  find("privacy").textContent = text(settings.folder ? "privacyFolder" : settings.passed ? "privacyPassed" : "privacy");
  find("language").textContent = language.toUpperCase();
  find("languages").hidden = settings.languages.length < 2;
  if (result.score !== null) writeScore();
  if (result.score !== null && !result.text) Object.assign(find("critique"), { className: "writing", lang: language, textContent: complete ? "" : text("writing") });
  if (state !== "counting") say([find("title").textContent, find("lead").textContent].filter(Boolean).join(". "));
}

function say(what, urgent = false) {
  find(urgent ? "alert" : "spoken").textContent = what;
}

const result = { score: null, attributes: {}, text: "" };

function writeScore() {
  const number = new Intl.NumberFormat(language, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
  const verdict = (score) => text("verdicts")[Math.min(4, Math.max(0, Math.floor(score / 2)))];
  find("points").textContent = number.format(result.score);
  find("verdict").textContent = verdict(result.score);
  const rows = Object.entries(result.attributes).map(([name, rating]) => [name, rating.score]);
  const least = Math.min(...rows.map(([, score]) => score));
  const weakest = rows.find(([, score]) => score === least && score < 5)?.[0];
  find("attributes").replaceChildren(...rows.flatMap(([name, score]) => {
    const [term, bar, value, meter] = ["dt", "dd", "dd", "meter"].map((tag) => document.createElement(tag));
    const shown = text("attributes")[name];
    term.textContent = shown ?? name;
    if (!shown) term.lang = "en";
    Object.assign(meter, { min: 0, max: 10, low: 4, optimum: 10, value: score });
    meter.setAttribute("aria-label", `${term.textContent}: ${verdict(score)}`);
    bar.append(meter);
    value.textContent = number.format(score);
    if (name === weakest) {
      const note = document.createElement("span");
      note.textContent = text("weakest");
      note.lang = language;
      term.append(" ", note);
      for (const one of [term, bar, value]) one.className = "weakest";
    }
    return [term, bar, value];
  }));
}

// Where it goes when nobody is in front of it.
function home() {
  if (!ready) show("starting");
  else if (settings.folder) show(folderThere ? "attract" : "folderMissing");
  else show(camera.trouble ?? "attract");
  if (state === "attract" && performance.now() > RELOAD_MS) location.reload();
}

function goodbye() {
  language = settings.language;
  home();
}

function thank() {
  show("thanks");
  later(goodbye, THANKS_MS);
}

function again() {
  if (settings.folder || camera.trouble) home();
  else show("live");
}

// Drops everything of the photo, and ends what the server does for it.
function forget() {
  asking?.abort();
  asking = null;
  complete = false;
  Object.assign(result, { score: null, attributes: {}, text: "" });
  find("said").removeAttribute("aria-busy");
  const canvas = find("photo");
  canvas.width = canvas.height = 1;
  for (const id of ["attributes", "critique", "points", "verdict"]) find(id).replaceChildren();
}

function failsafe(error) {
  console.info(`failsafe: ${error?.message ?? error}`); // a message of this page or of the browser, nothing of a guest
  show("failsafe");
  const back = () => (lostBeats === 0 ? goodbye() : later(back, 500));
  later(back, SORRY_MS);
}

function later(work, ms) {
  timers.push(setTimeout(() => guarded(work), ms));
}

function guarded(work) {
  try {
    const done = work();
    if (done instanceof Promise) done.catch(failsafe);
  } catch (error) {
    failsafe(error);
  }
}

function count() {
  show("counting");
  const step = (n) => {
    if (n === 0) return shoot();
    find("count").textContent = n;
    say(String(n), true);
    return later(() => step(n - 1), 1000);
  };
  step(3);
}

// The frame that is on the screen becomes the photo, and the question begins.
async function shoot() {
  const canvas = find("photo");
  const mine = timers;
  const taken = camera.take();
  performance.clearMarks();
  performance.mark("shutter");
  const frame = await taken;
  if (timers !== mine) return; // another screen has come in between
  camera.draw(canvas, frame, MOST_SIDE);
  look((signal) => new Promise((done, failed) => {
    canvas.toBlob((blob) => (signal.aborted ? failed(signal.reason) : blob ? done(blob) : failed(new Error("no JPEG"))), "image/jpeg", 0.92);
  }));
}

async function lookAtFile(number) {
  const answer = await fetch(`/kiosk/folder/${number}`);
  if (!answer.ok) return sorry();
  const blob = await answer.blob();
  const picture = await createImageBitmap(blob);
  show("attract"); // drops the photo before
  const canvas = find("photo");
  [canvas.width, canvas.height] = [picture.width, picture.height];
  canvas.getContext("2d").drawImage(picture, 0, 0);
  picture.close();
  performance.clearMarks();
  performance.mark("shutter");
  return look(async () => blob);
}

async function look(photo) {
  const mine = new AbortController();
  asking = mine;
  find("progress").removeAttribute("value");
  show("looking");
  try {
    for await (const [name, data] of ask(await photo(mine.signal), mine.signal)) {
      if (asking !== mine) return;
      heard(name, data);
    }
  } catch (error) {
    if (asking !== mine) return;
    if (error instanceof Unreadable) sorry();
    else failsafe(error);
  }
}

function heard(name, data) {
  if (name === "progress" && data.done > find("progress").value) {
    find("progress").value = data.done;
  } else if (name === "score") {
    if (!Number.isFinite(data.score)) throw new Error("the score is no number");
    result.score = data.score;
    show("score");
    find("said").setAttribute("aria-busy", "true");
    performance.mark("score");
  } else if (name === "attributes") {
    result.attributes = data;
    writeScore();
    const spoken = [...document.querySelectorAll("#attributes meter")].map((one) => one.getAttribute("aria-label"));
    say([`${find("points").textContent} ${text("of")}, ${find("verdict").textContent}`, ...spoken].join(". "));
  } else if (name === "words") {
    if (!result.text) {
      performance.mark("word");
      state = "words";
      document.body.dataset.state = "words";
      find("critique").className = "";
      find("critique").lang = "en";
    }
    result.text = (result.text + data.text).trimStart();
    find("critique").textContent = result.text;
    if (result.text.length > LONG) find("critique").className = "long";
    find("said").scrollTop = find("said").scrollHeight;
  } else if (name === "done") {
    if (!Number.isFinite(result.score)) throw new Error("there is no score");
    complete = true;
    find("said").setAttribute("aria-busy", "false");
    lastTouch = performance.now();
    if (!result.text) find("critique").textContent = ""; // a model that says nothing
    find("said").scrollTop = 0;
    say(result.text);
    performance.mark("done");
  }
}

function sorry() {
  show("unreadable");
  later(home, SORRY_MS);
}

async function beat() {
  try {
    const answer = await fetch("/kiosk/alive", {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ state }), signal: AbortSignal.timeout(4000),
    });
    if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
    heed(await answer.json());
  } catch (error) {
    lostBeats += 1;
    if (lostBeats >= LOST_BEATS && !["failsafe", "starting"].includes(state)) failsafe(error);
  }
  setTimeout(beat, settings.folder ? FOLDER_BEAT_MS : BEAT_MS);
}

function heed(told) {
  if (told.instance !== settings.instance) { // another server process: maybe another version, other settings
    if (WAITING.includes(state) || state === "failsafe") location.reload();
    else failsafe("the server began anew");
    return;
  }
  lostBeats = 0;
  const changed = told.ready !== ready || (settings.folder && told.folder !== folderThere);
  ready = told.ready;
  folderThere = told.folder ?? true;
  if (changed && WAITING.includes(state)) home();
  if (!settings.folder || told.photo === photoNumber) return;
  const isFirst = photoNumber === null;
  photoNumber = told.photo;
  if (!isFirst && ready) guarded(() => lookAtFile(told.photo));
}

// Nobody there: asks, and starts over. Answers that are still written do not count.
function watchIdle() {
  const still = find("still");
  const mayIdle = SCREENS[state].idle || complete || find("choose").open || still.open;
  if (!mayIdle) return;
  const left = Math.ceil(settings.idle_s + WARN_S - (performance.now() - lastTouch) / 1000);
  if (left > WARN_S) return;
  if (left <= 0) { goodbye(); return; }
  if (find("choose").open) { find("choose").close(); return; }
  find("still-text").textContent = text("stillText").replace("{n}", left);
  if (!still.open && (SCREENS[state].idle || complete)) {
    still.showModal();
    find("more-time").focus();
    say(`${text("stillThere")} ${find("still-text").textContent}`, true);
  }
}

function chooseLanguage() {
  find("choices").replaceChildren(...settings.languages.map((code) => {
    const [item, button] = [document.createElement("li"), document.createElement("button")];
    Object.assign(button, { type: "button", textContent: words[code].name, lang: code });
    if (code === language) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => {
      language = code;
      find("choose").close();
      write();
    });
    item.append(button);
    return item;
  }));
  find("choose").showModal();
}

function cameraChanged() {
  if (!WAITING.includes(state)) return;
  const was = TROUBLES.includes(state);
  home();
  if (was && state === "attract") {
    find("notice").textContent = text("returned");
    find("notice").hidden = false;
    say(text("returned"), true);
    later(() => { find("notice").hidden = true; }, 5000);
  }
}

function key(event) {
  lastTouch = performance.now();
  document.body.classList.add("keys");
  if (document.querySelector("dialog[open]")) return;
  if (event.key === "Escape" && !find("secondary").hidden) find("secondary").click();
  const free = !document.activeElement || !document.activeElement.closest("button");
  const button = [find("primary"), find("secondary")].find((one) => !one.hidden);
  if (free && [" ", "Enter"].includes(event.key) && button && !event.repeat) { event.preventDefault(); button.click(); }
}

async function keepAwake() {
  if (document.visibilityState === "visible") await navigator.wakeLock?.request("screen").catch(() => {});
}

function listen() {
  for (const id of ["primary", "secondary"]) {
    find(id).addEventListener("click", () => { const button = SCREENS[state][id]; if (button) guarded(button[1]); });
  }
  find("languages").addEventListener("click", chooseLanguage);
  find("choose-close").addEventListener("click", () => find("choose").close());
  find("more-time").addEventListener("click", () => find("still").close());
  find("leave").addEventListener("click", thank);
  find("still").addEventListener("close", () => { lastTouch = performance.now(); });
  addEventListener("keydown", key, true);
  addEventListener("pointerdown", () => { lastTouch = performance.now(); document.body.classList.remove("keys"); }, true);
  for (const kind of ["contextmenu", "dragstart", "dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());
  addEventListener("error", (event) => failsafe(event.error));
  addEventListener("unhandledrejection", (event) => failsafe(event.reason));
  document.addEventListener("visibilitychange", keepAwake);
  setInterval(() => guarded(watchIdle), 500);
}

async function begin() {
  const get = async (path) => {
    const answer = await fetch(path);
    if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
    return answer.json();
  };
  [settings, words] = await Promise.all([get("/kiosk/settings"), get("/kiosk/words.json")]);
  language = settings.language;
  document.body.classList.toggle("mirror", settings.mirror && !settings.folder);
  document.body.classList.toggle("folder", settings.folder);
  if (!settings.folder) {
    camera = new Camera(find("video"), settings.camera);
    camera.addEventListener("change", () => guarded(cameraChanged));
  }
  show("starting");
  listen();
  camera?.start();
  keepAwake();
  beat();
}

const start = () => begin().catch(() => setTimeout(start, 1000)); // the server is not there at the moment
start();
