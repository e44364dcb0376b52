// One photo to the server, its answer as events: [name, data]. Whatever is wrong is thrown.

const PATIENCE_MS = 12000; // for a server that has no room
const SILENCE_MS = 25000; // it says that it lives every 10 s

export class Unreadable extends Error {}

export async function* ask(photo, signal) {
  const answer = await send(photo, signal);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let name = "";
  try {
    for (;;) {
      const { value, done } = await heard(reader.read());
      if (done) throw new Error("the answer broke off");
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      if (rest.length > 1e6) throw new Error("the answer is no stream of events");
      for (const part of parts) {
        if (part.startsWith(":")) continue;
        const [, event, data] = /^event: (\w+)\ndata: (.*)$/.exec(part) ?? [];
        if (!event) throw new Error("the answer is no stream of events");
        name = event;
        if (name === "error") throw new Error("the server failed");
        yield [name, JSON.parse(data)];
        if (name === "done") return;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function send(photo, signal) {
  const until = performance.now() + PATIENCE_MS;
  for (;;) {
    const answer = await heard(fetch("/kiosk/photo", { method: "POST", headers: { "content-type": "image/jpeg" }, body: photo, signal }));
    const kind = answer.headers.get("content-type") ?? "";
    if (answer.status === 200 && kind.startsWith("text/event-stream")) return answer;
    answer.body?.cancel().catch(() => {});
    if ([400, 413, 415].includes(answer.status)) throw new Unreadable();
    const wait = 1000 * Math.min(5, Math.max(1, Number(answer.headers.get("retry-after")) || 1));
    if (![429, 503].includes(answer.status) || performance.now() + wait > until) throw new Error(`the server answers ${answer.status}`);
    await new Promise((done) => setTimeout(done, wait));
    signal.throwIfAborted();
  }
}

function heard(promise) {
  let timer = 0;
  const limit = new Promise((_, failed) => { timer = setTimeout(() => failed(new Error("the server is silent")), SILENCE_MS); });
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
}
