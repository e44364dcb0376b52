"use strict";
// A contact sheet without a server: thumbnails that load when they are seen, filters, decisions saved as a file.

const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);
const filters = find("filters").elements;
const list = find("photos");
const MARGIN_ROWS = 2;
const FAST = 3; // pixels in a millisecond: nobody looks at thumbnails then, and decoding them would make it stutter
const SETTLED_MS = 90;
const store = `aesedge sheet ${data.id}`;
const photos = data.photos;
const decided = new Map(Object.entries(readDraft()));
const cells = new Map(); // place in what is shown, to its list item
const spare = [];
let shown = [];
let at = 0;
let columns = 1;
let cellWidth = 184;
let cellHeight = 224;
let isDue = false;
let isFast = false;
let settling = 0;
let last = { top: 0, time: 0 };
let group = null;
let fixed = null;

function readDraft() { // localStorage belongs to all pages of file://, and may be switched off
  try { return JSON.parse(localStorage.getItem(store)) ?? {}; } catch { return {}; }
}

function keepDraft() {
  try { localStorage.setItem(store, JSON.stringify(Object.fromEntries(decided))); } catch { /* the file is what counts */ }
}

// ---- What is known of a photo, and what was decided

const decision = (photo) => decided.get(photo.k) ?? {};
const starsOf = (photo) => decision(photo).rating ?? photo.r ?? 0;
const pickOf = (photo) => decision(photo).pick ?? photo.p ?? 0;
const starText = (n) => "★".repeat(Math.max(0, n));

function decide(photo, change) {
  const made = { ...decision(photo), ...change };
  if (made.rating === (photo.r ?? 0)) delete made.rating;
  if (made.pick === (photo.p ?? 0)) delete made.pick;
  if (Object.keys(made).length) decided.set(photo.k, made);
  else decided.delete(photo.k);
  keepDraft();
  for (const [i, cell] of cells) if (shown[i] === photo) fill(cell, i);
  if (find("view").open) showRating(photo);
  say();
}

// ---- Which photos are shown

function passes(photo) {
  if (group !== null) return photo.b?.[0] === group;
  const { stars, bursts, attribute, below, fault, name } = Object.fromEntries([...filters].map((f) => [f.name, f.value]));
  const n = starsOf(photo);
  if (stars === "unrated" && n !== 0) return false;
  if (stars === "picked" && pickOf(photo) !== 1) return false;
  if (stars === "rejected" && pickOf(photo) !== -1) return false;
  if (stars === "decided" && !decided.has(photo.k)) return false;
  if (stars[0] === "+" && n < Number(stars[1])) return false;
  if (stars[0] === "=" && n !== Number(stars[1])) return false;
  if (bursts === "best" && photo.b && photo.b[1] !== 1) return false;
  if (bursts === "only" && !photo.b) return false;
  if (attribute !== "" && !(photo.a?.[Number(attribute)] < Number(below))) return false;
  if (fault !== "" && !photo.x?.includes(Number(fault))) return false;
  return !name || photo.n.toLowerCase().includes(name.toLowerCase());
}

const ORDERS = {
  best: (a, b) => b.s - a.s, worst: (a, b) => a.s - b.s, name: (a, b) => a.n.localeCompare(b.n), time: (a, b) => (a.d ?? 0) - (b.d ?? 0),
};

function arrange() {
  const current = shown[at];
  const order = group === null ? ORDERS[filters.order.value] : (a, b) => a.b[1] - b.b[1];
  shown = photos.filter(passes).sort(order);
  at = Math.max(0, shown.indexOf(current));
  for (const cell of cells.values()) retire(cell);
  cells.clear();
  layOut();
  say();
}

function say() {
  const some = shown.length === photos.length ? `${photos.length} photos` : `${shown.length} of ${photos.length} photos`;
  const burst = group === null ? "" : " (one burst; G shows all)";
  find("status").textContent = `${some}${burst}, ${decided.size} decided`;
}

// ---- The grid: only what is near the window is in the document

function layOut() {
  const sample = cells.get(at) ?? spare[0] ?? newCell();
  if (!sample.isConnected) list.append(sample);
  const box = sample.getBoundingClientRect();
  if (!cells.has(at)) retire(sample);
  [cellWidth, cellHeight] = [box.width || cellWidth, box.height || cellHeight];
  columns = Math.max(1, Math.floor(list.clientWidth / cellWidth));
  list.style.height = `${Math.ceil(shown.length / columns) * cellHeight}px`;
  for (const [i, cell] of cells) place(cell, i);
  draw();
}

function newCell() {
  return find("cell").content.cloneNode(true).firstElementChild;
}

function retire(cell) {
  cell.remove();
  cell.querySelector("img").removeAttribute("src");
  if (!spare.includes(cell)) spare.push(cell);
}

function place(cell, i) {
  cell.style.transform = `translate(${(i % columns) * cellWidth}px, ${Math.floor(i / columns) * cellHeight}px)`;
}

function draw() {
  isDue = false;
  const top = -list.getBoundingClientRect().top;
  const time = performance.now();
  isFast = last.time > 0 && Math.abs(top - last.top) > FAST * Math.max(1, time - last.time);
  last = { top, time };
  if (isFast) {
    clearTimeout(settling);
    settling = setTimeout(settle, SETTLED_MS);
  }
  const first = Math.max(0, Math.floor(top / cellHeight) - MARGIN_ROWS) * columns;
  const end = Math.min(shown.length, (Math.ceil((top + innerHeight) / cellHeight) + MARGIN_ROWS) * columns);
  for (const [i, cell] of cells) {
    if ((i < first || i >= end) && i !== at) { // the photo in hand stays, and keeps the focus
      retire(cell);
      cells.delete(i);
    }
  }
  for (let i = first; i < end; i += 1) show(i);
  if (shown.length) show(at);
}

function settle() {
  isFast = false;
  for (const [i, cell] of cells) fill(cell, i);
}

function show(i) {
  if (cells.has(i)) return cells.get(i);
  const cell = spare.pop() ?? newCell();
  cells.set(i, cell);
  fill(cell, i);
  place(cell, i);
  const after = [...cells.keys()].filter((j) => j > i && cells.get(j).isConnected);
  list.insertBefore(cell, after.length ? cells.get(Math.min(...after)) : null); // in reading order
  return cell;
}

function fill(cell, i) {
  const photo = shown[i];
  const part = (name) => cell.querySelector(name);
  const image = part("img");
  const source = photo.t === 1 ? `thumbs/${photo.k}.webp` : photo.t || "";
  if (image.getAttribute("src") !== source) {
    if (source && !isFast) image.src = source;
    else image.removeAttribute("src");
  }
  part(".name").textContent = photo.n;
  part(".score").textContent = scoreText(photo);
  part(".stars").textContent = pickOf(photo) === -1 ? `✕ ${starText(starsOf(photo))}` : `${pickOf(photo) === 1 ? "⚑ " : ""}${starText(starsOf(photo))}`;
  part(".burst").textContent = photo.b ? `${photo.b[1]}/${photo.b[2]}` : "";
  const button = part("button");
  button.className = pickOf(photo) === -1 ? "rejected" : "";
  button.tabIndex = i === at ? 0 : -1;
  button.dataset.place = i;
  button.setAttribute("aria-label", spoken(photo));
  cell.setAttribute("aria-posinset", i + 1);
  cell.setAttribute("aria-setsize", shown.length);
}

const scoreText = (photo) => (photo.e ? "≈ " : "") + photo.s.toFixed(1);

function spoken(photo) {
  const parts = [photo.n, `score ${photo.s.toFixed(1)}${photo.e ? ", estimated" : ""}`];
  if (starsOf(photo)) parts.push(`${starsOf(photo)} stars`);
  if (pickOf(photo)) parts.push(pickOf(photo) === 1 ? "picked" : "rejected");
  if (photo.b) parts.push(`${photo.b[1]} of a burst of ${photo.b[2]}`);
  return parts.join(", ");
}

function goTo(i, { focus = true } = {}) {
  if (!shown.length) return;
  const before = cells.get(at)?.querySelector("button");
  at = Math.min(Math.max(i, 0), shown.length - 1);
  if (before) before.tabIndex = -1;
  const y = list.getBoundingClientRect().top + Math.floor(at / columns) * cellHeight;
  if (y < 0) scrollBy(0, y - 8);
  else if (y + cellHeight > innerHeight) scrollBy(0, y + cellHeight - innerHeight + 8);
  draw();
  const button = show(at).querySelector("button");
  button.tabIndex = 0;
  if (focus && !find("view").open) button.focus({ preventScroll: true });
  if (find("view").open) showPhoto();
}

// ---- The full picture, and why

function openView() {
  if (!shown.length) return;
  find("view").showModal();
  showPhoto();
}

function closeView() {
  fixed = null;
  find("view").classList.remove("zoomed");
  find("zoom").setAttribute("aria-pressed", "false");
  for (const image of find("pictures").querySelectorAll("img")) image.removeAttribute("src");
  find("view").close();
  goTo(at);
}

function showPhoto() {
  const photo = shown[at];
  find("view-name").textContent = photo.n;
  picture(find("moving"), photo);
  find("fixed").hidden = !fixed;
  find("compare").setAttribute("aria-pressed", String(Boolean(fixed)));
  if (fixed) picture(find("fixed"), fixed);
  showRating(photo);
  const rows = [["score", photo.s], ...data.attributes.map((name, i) => [name, photo.a?.[i]])].filter((row) => row[1] !== undefined && row[1] !== null);
  find("why").querySelector("dl").replaceChildren(...rows.flatMap(([name, value]) => {
    const [term, bar, number, meter] = ["dt", "dd", "dd", "meter"].map((tag) => document.createElement(tag));
    term.textContent = name;
    Object.assign(meter, { min: 0, max: 10, value });
    meter.setAttribute("aria-label", name);
    bar.append(meter);
    number.textContent = value.toFixed(1);
    return [term, bar, number];
  }));
  const burst = photo.b ? `${photo.b[1]} of ${photo.b[2]} in its burst: ${photo.b[3]}.\n` : "";
  const estimate = photo.e ? "Only the first pass has seen it; the score is an estimate.\n" : "";
  find("why").querySelector(".said").textContent = estimate + burst + (photo.c ?? "");
}

function picture(figure, photo) {
  const image = figure.querySelector("img");
  const small = photo.t === 1 ? `thumbs/${photo.k}.webp` : photo.t || "";
  const whole = photo.u || small;
  if (image.getAttribute("src") !== whole) {
    image.onerror = () => { if (small && image.getAttribute("src") !== small) image.src = small; };
    if (whole) image.src = whole;
    else image.removeAttribute("src");
  }
  image.alt = `The photo ${photo.n}`;
  figure.querySelector("figcaption").textContent = `${photo.n}, score ${scoreText(photo)} ${starText(starsOf(photo))}`;
}

function showRating(photo) {
  const buttons = [...[0, 1, 2, 3, 4, 5].map((n) => [n ? "★".repeat(n) : "0", String(n), n ? `${n} stars` : "no stars", starsOf(photo) === n]),
    ["Pick", "p", "pick", pickOf(photo) === 1], ["Reject", "x", "reject", pickOf(photo) === -1], ["Neither", "u", "neither picked nor rejected", pickOf(photo) === 0]];
  const box = find("rating");
  if (!box.children.length) box.append(...buttons.map(() => Object.assign(document.createElement("button"), { type: "button", className: "button plain" })));
  buttons.forEach(([text, key, label, pressed], i) => {
    const button = box.children[i];
    button.textContent = text;
    button.dataset.key = key;
    button.setAttribute("aria-label", label);
    button.setAttribute("aria-pressed", String(pressed));
  });
}

function toggleCompare() {
  if (!find("view").open) {
    fixed = shown[at];
    openView();
    goTo(at + 1 < shown.length ? at + 1 : at);
  } else {
    fixed = fixed === shown[at] ? null : shown[at];
    showPhoto();
  }
}

function toggleZoom() {
  if (!find("view").open) openView();
  const zoomed = find("view").classList.toggle("zoomed");
  find("zoom").setAttribute("aria-pressed", String(zoomed));
  if (zoomed) for (const figure of find("pictures").children) figure.scrollTo((figure.scrollWidth - figure.clientWidth) / 2, (figure.scrollHeight - figure.clientHeight) / 2);
}

function toggleGroup() {
  if (group !== null) group = null;
  else if (shown[at]?.b) group = shown[at].b[0];
  else return;
  arrange();
  goTo(at);
}

// ---- Keys

function act(key) {
  const isOpen = find("view").open;
  const photo = shown[at];
  if (!photo) return false;
  const row = isOpen ? 1 : columns;
  const page = Math.max(1, Math.floor(innerHeight / cellHeight)) * columns;
  const moves = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - row, ArrowDown: at + row, Home: 0, End: shown.length - 1, PageUp: at - page, PageDown: at + page };
  if (key in moves) goTo(moves[key] < 0 && key === "ArrowUp" ? at : moves[key]);
  else if (/^[0-5]$/.test(key)) decide(photo, { rating: Number(key) });
  else if (key === "p") decide(photo, { pick: 1 });
  else if (key === "x") decide(photo, { pick: -1 });
  else if (key === "u") decide(photo, { pick: 0 });
  else if (key === "c") toggleCompare();
  else if (key === "z") toggleZoom();
  else if (key === "g" && !isOpen) toggleGroup();
  else if (key === " " || key === "Enter") { if (isOpen) closeView(); else openView(); }
  else if (key === "Escape" && isOpen) closeView();
  else return false;
  return true;
}

addEventListener("keydown", (event) => {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.ctrlKey || event.metaKey || event.altKey || find("help").open) return;
  if (event.target.closest("form, header, footer")) return; // a filter is typed
  if ((key === " " || key === "Enter") && event.target.closest("dialog .button")) return; // that button is meant
  if (key === "?") find("help").showModal();
  else if (!act(key)) return;
  event.preventDefault();
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.place) { goTo(Number(button.dataset.place)); openView(); }
  else if (button?.dataset.key) act(button.dataset.key);
});
find("view").addEventListener("cancel", (event) => { event.preventDefault(); closeView(); });
find("keys").addEventListener("click", () => find("help").showModal());

// ---- Decisions as a file

find("save").addEventListener("click", () => {
  const made = photos.filter((photo) => decided.has(photo.k)).map((photo) => ({ photo: photo.f, key: photo.k, ...decision(photo), was: photo.r ?? null }));
  const text = JSON.stringify({ sheet: data.id, saved: new Date().toISOString(), decisions: made }, null, 1);
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(new Blob([text], { type: "application/json" })), download: "decisions.json" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
});
find("load").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  event.target.value = "";
  if (!file) return;
  try {
    const known = new Set(photos.map((photo) => photo.k));
    for (const { key, rating, pick } of JSON.parse(await file.text()).decisions) {
      if (known.has(key)) decided.set(key, { ...(Number.isInteger(rating) && { rating }), ...(Number.isInteger(pick) && { pick }) });
    }
    keepDraft();
    arrange();
  } catch {
    find("status").textContent = `${file.name} holds no decisions.`;
  }
});

// ---- Filters are in the address, so that it can be kept

function readAddress() {
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) if (filters[name]) filters[name].value = value;
}

find("filters").addEventListener("submit", (event) => event.preventDefault());
find("filters").addEventListener("input", () => {
  const changed = [...filters].filter((f) => f.value && f.value !== f.defaultValue && !(f.name === "order" && f.value === "best"));
  history.replaceState(null, "", `#${new URLSearchParams(changed.map((f) => [f.name, f.value]))}`);
  group = null;
  arrange();
});
addEventListener("hashchange", () => { readAddress(); arrange(); });
addEventListener("scroll", () => { if (!isDue) { isDue = true; requestAnimationFrame(draw); } }, { passive: true });
addEventListener("resize", layOut);

data.attributes.forEach((name, i) => filters.attribute.add(new Option(name, i)));
data.faults.forEach((name, i) => filters.fault.add(new Option(name, i)));
find("faults").hidden = !data.faults.length;
readAddress();
arrange();
