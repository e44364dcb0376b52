// The camera: opens it, notices when it goes away or falls asleep, opens it again until it is back.
// `trouble` is null, or the word of the screen that says what is wrong; "change" is dispatched whenever it changes.

const RETRY_S = [1, 1, 2, 4]; // then every 4 s
const ASLEEP_MS = 3000; // without a frame
const OPEN_MS = 10000; // a driver may never answer
const PROMPT_MS = 120000; // a browser that asks its user waits for an answer

export class Camera extends EventTarget {
  trouble = "starting";
  #video; #name; #stream = null; #tries = 0; #timer = 0; #opening = false; #lastFrame = 0; #had = false; #frames = 0;

  constructor(video, name) {
    super();
    this.#video = video;
    this.#name = name.toLowerCase();
  }

  start() {
    navigator.mediaDevices?.addEventListener("devicechange", () => { if (this.trouble) this.#open(); });
    navigator.permissions?.query({ name: "camera" }).then((told) => {
      told.addEventListener("change", () => (this.trouble ? this.#open() : told.state === "denied" && this.#lost("refused")));
    }).catch(() => {});
    setInterval(() => this.#check(), 500);
    this.#open();
  }

  async #open() {
    if (this.#opening) return;
    this.#opening = true;
    clearTimeout(this.#timer);
    try {
      const stream = await this.#request();
      for (const track of stream.getTracks()) {
        track.addEventListener("ended", () => { if (stream === this.#stream) this.#lost("unplugged"); });
      }
      this.#stream = stream;
      this.#video.srcObject = stream;
      await within(OPEN_MS, this.#video.play(), new DOMException("", "TimeoutError"));
      if (stream !== this.#stream) return;
      this.#tries = 0;
      this.#had = true;
      this.#lastFrame = performance.now();
      this.#frames += 1;
      this.#watchFrames(this.#frames);
      this.#become(null);
    } catch (error) {
      this.#lost(this.#word(error));
    } finally {
      this.#opening = false;
    }
  }

  async #request() {
    if (!navigator.mediaDevices?.getUserMedia) throw new DOMException("", "NotAllowedError");
    const wanted = { width: { ideal: 1920 }, height: { ideal: 1080 }, facingMode: "user" };
    const told = await navigator.permissions?.query({ name: "camera" }).catch(() => null);
    const patience = told?.state === "prompt" ? PROMPT_MS : OPEN_MS;
    const ask = (video) => {
      const asked = navigator.mediaDevices.getUserMedia({ video, audio: false });
      return within(patience, asked, new DOMException("", "TimeoutError"), (late) => late.getTracks().forEach((track) => track.stop()));
    };
    const stream = await ask(wanted);
    if (!this.#name || stream.getVideoTracks()[0].label.toLowerCase().includes(this.#name)) return stream;
    stream.getTracks().forEach((track) => track.stop());
    const devices = await navigator.mediaDevices.enumerateDevices();
    const named = devices.find((one) => one.kind === "videoinput" && one.label.toLowerCase().includes(this.#name));
    if (!named) throw new DOMException("", "NotFoundError");
    return ask({ width: wanted.width, height: wanted.height, deviceId: { exact: named.deviceId } });
  }

  #word(error) {
    if (["NotAllowedError", "SecurityError", "NotSupportedError"].includes(error.name)) return "refused";
    if (["NotFoundError", "OverconstrainedError"].includes(error.name)) return this.#had ? "unplugged" : "missing";
    return "asleep"; // another program has it, or its driver does not answer
  }

  #lost(word) {
    this.#stream?.getTracks().forEach((track) => track.stop());
    this.#stream = null;
    this.#video.srcObject = null;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#open(), 1000 * RETRY_S[Math.min(this.#tries, RETRY_S.length - 1)]);
    this.#tries += 1;
    this.#become(word);
  }

  #become(word) {
    const changed = word !== this.trouble;
    this.trouble = word;
    if (changed) this.dispatchEvent(new Event("change"));
  }

  #watchFrames(turn) {
    this.#video.requestVideoFrameCallback?.(() => { // older Firefox has none, and is not watched for sleep
      if (turn !== this.#frames) return;
      this.#lastFrame = performance.now();
      this.#watchFrames(turn);
    });
  }

  // A muted track and one that sends no frames look the same to guests: the picture stands still.
  #check() {
    if (this.trouble || this.#opening) return;
    const track = this.#stream.getVideoTracks()[0];
    if (track.readyState === "ended") this.#lost("unplugged");
    else if (!this.#video.requestVideoFrameCallback) return;
    else if (document.visibilityState === "visible" && performance.now() - this.#lastFrame > ASLEEP_MS) this.#lost("asleep");
    else if (document.visibilityState !== "visible") this.#lastFrame = performance.now();
  }

  // The frame of this moment as a canvas, or null where it cannot be had so. Without a GPU Chromium keeps a decoded copy
  // of each video frame that is drawn, 8 MB at 1920 x 1080, until there are 512 MB of them; of copied pixels it keeps none.
  async take() {
    if (typeof VideoFrame === "undefined") return null;
    const { videoWidth: width, videoHeight: height } = this.#video;
    const frame = new VideoFrame(this.#video);
    try {
      const { visibleRect } = frame;
      const isTurned = frame.rotation || frame.flip || visibleRect.width !== width || visibleRect.height !== height;
      if (isTurned) return null;
      const pixels = new Uint8ClampedArray(4 * width * height);
      await frame.copyTo(pixels, { format: "RGBA" });
      const canvas = new OffscreenCanvas(width, height);
      canvas.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
      return canvas;
    } catch {
      return null; // an older browser, which copies no RGBA
    } finally {
      frame.close();
    }
  }

  // Draws what the video's box shows of a frame that was taken, or of the video itself, but for the mirror.
  draw(canvas, frame, mostSide) {
    const { videoWidth, videoHeight, clientWidth, clientHeight } = this.#video;
    if (!videoWidth || !clientWidth) throw new Error("there is no picture");
    const scale = Math.max(clientWidth / videoWidth, clientHeight / videoHeight);
    const [width, height] = [clientWidth / scale, clientHeight / scale];
    const shrink = Math.min(1, mostSide / Math.max(width, height));
    canvas.width = Math.max(1, Math.round(width * shrink));
    canvas.height = Math.max(1, Math.round(height * shrink));
    const [left, top] = [(videoWidth - width) / 2, (videoHeight - height) / 2];
    canvas.getContext("2d").drawImage(frame ?? this.#video, left, top, width, height, 0, 0, canvas.width, canvas.height);
    if (frame) frame.width = frame.height = 1;
  }
}

function within(ms, promise, error, late = () => {}) {
  let timer = 0;
  let over = false;
  const limit = new Promise((_, failed) => { timer = setTimeout(() => { over = true; failed(error); }, ms); });
  promise.then((value) => { if (over) late(value); }, () => {});
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
}
