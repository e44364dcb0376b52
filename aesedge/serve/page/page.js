// The page of `aesedge serve`: photos in, scores as they come, the critique as it is written, questions.
// It asks its own server only: POST /v1/photo?words=0 for scores, POST /v1/chat/completions for texts.

const MOST_BYTES = 32 * 2 ** 20 * 3 / 4 - 65536; // of a photo, which is sent in base64 when it is talked about
const AT_ONCE = 4;
const IMAGE = /\.(jpe?g|png|webp|gif|bmp|tiff?|heic|heif|avif)$/i;
const find = (id) => document.getElementById(id);
const photos = [];
let nUnderWay = 0;
let open = null;

find("files").addEventListener("change", (event) => add([...event.target.files], event.target));
find("folder").addEventListener("change", (event) => add([...event.target.files], event.target));
find("order").addEventListener("change", arrange);
find("ask").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
find("photo").addEventListener("close", () => { open?.stop?.abort(); open = null; });
for (const kind of ["dragover", "dragleave", "drop"]) addEventListener(kind, dragged);

async function dragged(event) {
  event.preventDefault();
  find("drop").classList.toggle("over", event.type === "dragover");
  if (event.type !== "drop") return;
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  add((await Promise.all(entries.map(filesOf))).flat());
}

async function filesOf(entry) {
  if (!entry || entry instanceof File) return entry ? [entry] : [];
  if (entry.isFile) return new Promise((done) => entry.file((file) => done([file]), () => done([])));
  const reader = entry.createReader();
  const found = [];
  for (;;) { // a folder is read in pieces
    const some = await new Promise((done) => reader.readEntries(done, () => done([])));
    if (!some.length) break;
    found.push(...some);
  }
  return (await Promise.all(found.map(filesOf))).flat();
}

function add(files, input) {
  const chosen = files.filter((file) => file.type.startsWith("image/") || IMAGE.test(file.name));
  for (const file of chosen.sort((a, b) => a.name.localeCompare(b.name))) {
    const photo = { file, name: file.name, url: URL.createObjectURL(file), item: find("card").content.cloneNode(true).firstElementChild };
    const image = photo.item.querySelector("img");
    image.addEventListener("error", () => image.remove()); // a format that browsers do not show
    image.src = photo.url;
    photo.item.querySelector(".name").textContent = photo.name;
    photo.item.querySelector("button").addEventListener("click", () => show(photo));
    photo.item.firstElementChild.classList.add("waiting");
    find("photos").append(photo.item);
    photos.push(photo);
    tell(photo, "…", "waiting");
  }
  if (input) input.value = "";
  next();
  if (files.length && !chosen.length) say("There was no photo among them.");
}

function tell(photo, text, spoken) {
  photo.item.querySelector(".score").textContent = text;
  photo.item.querySelector("button").setAttribute("aria-label", `${photo.name}: ${spoken}`);
}

function say(text) {
  find("bar").hidden = false;
  find("status").textContent = text;
}

function next() {
  const scored = photos.filter((photo) => photo.done).length;
  if (photos.length) say(scored < photos.length ? `${scored} of ${photos.length} scored` : `${photos.length} photo${photos.length > 1 ? "s" : ""} scored`);
  for (const photo of photos.filter((photo) => !photo.begun).slice(0, AT_ONCE - nUnderWay)) score(photo);
}

async function score(photo) {
  photo.begun = true;
  nUnderWay += 1;
  try {
    if (photo.file.size > MOST_BYTES) throw new Error("The file is too large; export it smaller.");
    const kind = photo.file.type.startsWith("image/") ? photo.file.type : "image/jpeg";
    const answer = await send("v1/photo?words=0", { headers: { "content-type": kind }, body: photo.file });
    photo.result = await answer.json();
    tell(photo, photo.result.score.toFixed(1), `score ${photo.result.score.toFixed(1)} of 10`);
  } catch (error) {
    photo.error = error.message;
    photo.item.firstElementChild.classList.add("failed");
    tell(photo, "–", error.message);
  }
  photo.item.firstElementChild.classList.remove("waiting");
  photo.done = true;
  nUnderWay -= 1;
  arrange();
  next();
  if (open === photo) showScores(photo);
}

// Sends a request, and again after a while where the server has no room.
async function send(path, options) {
  for (;;) {
    let answer;
    try {
      answer = await fetch(path, { method: "POST", ...options });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Error("The server does not answer. Is it running still?");
    }
    if (answer.ok) return answer;
    const wait = Number(answer.headers.get("retry-after"));
    if (![429, 503].includes(answer.status) || !wait) {
      const told = await answer.json().catch(() => ({}));
      throw new Error(told.error?.message ?? `The server answers ${answer.status}.`);
    }
    await new Promise((done) => setTimeout(done, wait * 1000));
    options.signal?.throwIfAborted();
  }
}

function arrange() {
  const order = find("order").value;
  const worth = (photo) => photo.result?.score ?? (order === "best" ? -1 : 11);
  const sorted = order === "added" ? photos : [...photos].sort((a, b) => (order === "best" ? worth(b) - worth(a) : worth(a) - worth(b)));
  const list = find("photos");
  const focused = document.activeElement;
  sorted.forEach((photo, i) => { if (list.children[i] !== photo.item) list.insertBefore(photo.item, list.children[i] ?? null); });
  if (focused !== document.activeElement) focused.focus();
}

function show(photo) {
  open = photo;
  find("name").textContent = photo.name;
  find("picture").src = photo.url;
  find("picture").alt = `The photo ${photo.name}`;
  find("talk").replaceChildren();
  find("question").value = "";
  showScores(photo);
  find("photo").showModal();
  find("question").focus({ preventScroll: true });
  if (photo.error) paragraph("failed").textContent = photo.error;
  else if (photo.talk) photo.talk.slice(1).forEach(showMessage);
  else talk(photo, "");
}

function showScores(photo) {
  const rows = photo.result ? [["Overall", photo.result.score], ...Object.entries(photo.result.attributes).map(([name, rating]) => [name, rating.score])] : [];
  find("scores").replaceChildren(...rows.flatMap(([name, value], i) => {
    const [term, bar, number, meter] = ["dt", "dd", "dd", "meter"].map((tag) => document.createElement(tag));
    term.textContent = name;
    if (!i) term.className = "first";
    Object.assign(meter, { min: 0, max: 10, value });
    meter.setAttribute("aria-label", name);
    bar.append(meter);
    number.textContent = value.toFixed(1);
    return [term, bar, number];
  }));
}

function paragraph(kind) {
  const made = document.createElement("p");
  made.className = kind;
  find("talk").append(made);
  return made;
}

function showMessage(message) {
  paragraph(message.role === "user" ? "asked" : "said").textContent = message.content;
}

function ask() {
  const question = find("question").value.trim();
  if (!question || !open || open.error || open.stop) return;
  find("question").value = "";
  showMessage({ role: "user", content: question });
  talk(open, question);
}

// Asks for the critique, or a question after it, and shows the answer as it is written.
async function talk(photo, question) {
  const messages = photo.talk ?? [{ role: "user", content: [{ type: "image_url", image_url: { url: await dataUrl(photo.file) } }] }];
  if (question) messages.push({ role: "user", content: question });
  photo.stop = new AbortController();
  const words = paragraph("said");
  find("talk").setAttribute("aria-busy", "true"); // screen readers hear it when it is whole
  let text = "";
  try {
    const answer = await send("v1/chat/completions", {
      headers: { "content-type": "application/json" }, body: JSON.stringify({ messages, stream: true }), signal: photo.stop.signal,
    });
    for await (const data of events(answer.body)) {
      if (data.error) throw new Error(data.error.message);
      text += data.choices[0]?.delta.content ?? "";
      words.textContent = text;
    }
    photo.talk = [...messages, { role: "assistant", content: text }];
  } catch (error) {
    if (question) messages.pop();
    if (error.name !== "AbortError") Object.assign(words, { className: "failed", textContent: error.message });
  }
  photo.stop = null;
  find("talk").setAttribute("aria-busy", "false");
}

function dataUrl(file) {
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result.replace(/^data:[^,]*,/, "data:image/jpeg;base64,"));
    reader.onerror = () => failed(new Error("The file cannot be read."));
    reader.readAsDataURL(file);
  });
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const data = part.split("\n").find((line) => line.startsWith("data: "))?.slice(6);
      if (data && data !== "[DONE]") yield JSON.parse(data);
    }
  }
}
