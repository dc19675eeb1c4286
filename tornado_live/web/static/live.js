/**
 * The JavaScript client of a tornado-live server: one ES module that needs nothing else.
 *
 *   const live = new LiveClient("wss://example.org/ws/live-audio");
 *   live.addEventListener("message", ({detail}) => console.log(detail.type, detail.data));
 *   live.connect();
 *   live.start({response_modality: "text"});
 *   const recorder = new Recorder((chunk) => live.sendAudio(chunk));
 *   await recorder.start();   // speak
 *   await recorder.stop();    // every chunk has been handed over
 *   live.flush();
 */

const RECORDER_TYPES = ["audio/webm;codecs=opus", "audio/mp4", "audio/ogg;codecs=opus"];
const TIMESLICE_MS = 250;
const BITS_PER_SECOND = 24000;
const RETRY_MS = [500, 1000, 2000, 4000, 8000];
// What is kept while there is no connection: three minutes of speech.
const MAX_WAITING_BYTES = 540000;
// Closed by the network or for a restart: worth trying again without being told so.
const RETRY_CLOSE_CODES = [1001, 1005, 1006, 1012, 1013];

/** The MIME type that this browser records best; undefined if it can record none that is understood. */
export function recorderType() {
  return globalThis.MediaRecorder && RECORDER_TYPES.find((type) => MediaRecorder.isTypeSupported(type));
}

/**
 * One connection to a server, one session at a time.
 *
 * What is sent before the session has started, or while the connection is lost, waits and is sent
 * afterwards, in order. A lost connection is dialled again and its session taken up again.
 *
 * Events:
 *   message  detail = a message of the server, as it came
 *   state    `state` has changed
 *   lost     a connection that was open has been lost and will be dialled again
 */
export class LiveClient extends EventTarget {
  #url;
  #socket = null;
  #options = null; // of the wanted session; null: none is wanted
  #started = false;
  #waiting = [];
  #waitingBytes = 0;
  #attempt = 0;
  #timer = 0;
  #last = {};

  /** @param {string | URL} url ws: or wss: address of the server's socket. */
  constructor(url) {
    super();
    this.#url = url;
    /** @type {"closed" | "connecting" | "open" | "waiting"} `waiting`: for the next attempt. */
    this.state = "closed";
    this.apiKey = "";
  }

  /** True from `start` until the session has ended. */
  get inSession() {
    return this.#options !== null;
  }

  /** Dials now, if there is no connection. */
  connect() {
    if (this.#socket) return;
    clearTimeout(this.#timer);
    this.#last = {};
    const socket = new WebSocket(this.#url);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => socket.send(JSON.stringify({type: "hello", version: 1, binary: true}));
    socket.onmessage = ({data}) => typeof data === "string" && this.#receive(JSON.parse(data));
    socket.onclose = ({code}) => this.#lost(code);
    this.#socket = socket;
    this.#enter("connecting");
  }

  /** Gives a key to a server that wants one; `apiKey` is also used for every later connection. */
  authenticate(apiKey) {
    this.apiKey = apiKey;
    if (this.state === "open") this.#write({type: "auth", token: apiKey});
    else this.connect();
  }

  /** Starts a session with the fields of `start_session`; none of them is needed. */
  start(options = {}) {
    this.#options = {format: recorderType(), ...options};
    if (this.state === "open") this.#begin();
    else this.connect();
  }

  /** Sends the next bytes of the recording. @param {Blob | ArrayBuffer} chunk */
  sendAudio(chunk) {
    this.#sendInSession(chunk, chunk.size ?? chunk.byteLength);
  }

  /** Sends a typed turn. */
  sendText(text) {
    this.#sendInSession(JSON.stringify({type: "text", text}), text.length);
  }

  /** Says that the utterance is over: the server answers it now. */
  flush() {
    this.#sendInSession(JSON.stringify({type: "flush"}), 0);
  }

  /** Ends the session; its last texts and `session_ended` still come. */
  end() {
    if (this.#started && this.state === "open") this.#write({type: "end_session"});
    this.#forget();
  }

  #write(message) {
    this.#socket.send(JSON.stringify(message));
  }

  #sendInSession(frame, size) {
    if (this.#started) {
      this.#socket.send(frame);
    } else if (this.#waitingBytes + size <= MAX_WAITING_BYTES) {
      this.#waiting.push(frame);
      this.#waitingBytes += size;
    }
  }

  #begin() {
    this.#write({type: "start_session", ...this.#options});
  }

  #forget() {
    this.#options = null;
    this.#started = false;
    this.#dropWaiting();
  }

  #dropWaiting() {
    this.#waiting = [];
    this.#waitingBytes = 0;
  }

  #receive(message) {
    this.#last = message;
    switch (message.type) {
      case "connected":
        this.#attempt = 0;
        this.#enter("open");
        if (this.apiKey) this.#write({type: "auth", token: this.apiKey});
        else if (this.#options && !message.data.authRequired) this.#begin();
        break;
      case "auth_success":
        if (this.#options) this.#begin();
        break;
      case "session_started":
        if (!this.#options) break;
        this.#options = {...this.#options, session_id: message.session_id};
        this.#started = true;
        this.#waiting.forEach((frame) => this.#socket.send(frame));
        this.#dropWaiting();
        break;
      case "session_ended":
      case "session_expired":
      case "inactivity_timeout":
        if (message.session_id === undefined || message.session_id === this.#options?.session_id) this.#forget();
        break;
      case "error":
        // A start that was refused: what waits for it would wait for ever.
        if (this.#options && !this.#started) this.#forget();
        break;
    }
    this.dispatchEvent(new CustomEvent("message", {detail: message}));
  }

  #lost(code) {
    const wasOpen = this.state === "open";
    this.#socket = null;
    this.#started = false;
    if (RETRY_CLOSE_CODES.includes(code) || this.#last.retryable) {
      const delay = Math.max(RETRY_MS[Math.min(this.#attempt++, RETRY_MS.length - 1)], this.#last.retry_after_ms ?? 0);
      this.#timer = setTimeout(() => this.connect(), delay);
      this.#enter("waiting");
      if (wasOpen) this.dispatchEvent(new Event("lost"));
    } else {
      this.#forget();
      this.#enter("closed");
    }
  }

  #enter(state) {
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }
}

/** The microphone as a stream of chunks in the best type that the browser records (`recorderType`). */
export class Recorder {
  #onChunk;
  #onLost;
  #stream = null;
  #recorder = null;

  /**
   * @param {(chunk: Blob) => void} onChunk takes each chunk, in order.
   * @param {() => void} onLost called when the microphone goes away while recording.
   */
  constructor(onChunk, onLost = () => {}) {
    this.#onChunk = onChunk;
    this.#onLost = onLost;
  }

  get recording() {
    return this.#recorder !== null;
  }

  /** Starts recording. Throws a DOMException: NotAllowedError, NotFoundError, NotReadableError, NotSupportedError. */
  async start() {
    if (!navigator.mediaDevices?.getUserMedia || !recorderType()) {
      throw new DOMException("no recorder", "NotSupportedError");
    }
    this.#stream = await navigator.mediaDevices.getUserMedia({
      audio: {channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true},
    });
    this.#stream.getAudioTracks()[0].onended = () => this.#onLost();
    this.#record();
  }

  /** Stops; resolves when the last chunk has been handed over. */
  async stop() {
    const recorder = this.#recorder;
    if (!recorder) return;
    this.#recorder = null;
    if (recorder.state !== "inactive") {
      await new Promise((resolve) => {
        recorder.onstop = resolve;
        recorder.stop();
      });
    }
    this.#stream.getTracks().forEach((track) => track.stop());
  }

  /**
   * Goes on with a new recording, which begins with its own header: after a lost connection nobody
   * knows how much of the old one arrived.
   */
  restart() {
    if (!this.#recorder) return;
    this.#recorder.ondataavailable = null;
    this.#recorder.stop();
    this.#record();
  }

  #record() {
    this.#recorder = new MediaRecorder(this.#stream, {mimeType: recorderType(), audioBitsPerSecond: BITS_PER_SECOND});
    this.#recorder.ondataavailable = ({data}) => data.size && this.#onChunk(data);
    this.#recorder.start(TIMESLICE_MS);
  }
}

/** Plays replies one after another. */
export class Player {
  #context = null;
  #playing = new Set();
  #freeAt = 0;
  #order = Promise.resolve();
  #era = 0;

  /** Browsers let a page make sound only after the user has done something: call it from such an event. */
  unlock() {
    this.#context ??= new AudioContext();
    this.#context.resume();
  }

  /** Plays a whole WAV file after what is playing already. @param {string} base64 */
  play(base64) {
    this.unlock();
    const wav = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0)).buffer;
    const era = this.#era;
    this.#order = this.#order.then(async () => {
      const buffer = await this.#context.decodeAudioData(wav);
      if (era === this.#era) this.#schedule(buffer);
    });
  }

  /** Falls silent and drops what has not been played. */
  stop() {
    this.#era++;
    this.#playing.forEach((source) => source.stop());
    this.#playing.clear();
    this.#freeAt = 0;
  }

  #schedule(buffer) {
    const source = this.#context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.#context.destination);
    source.onended = () => this.#playing.delete(source);
    this.#freeAt = Math.max(this.#freeAt, this.#context.currentTime);
    source.start(this.#freeAt);
    this.#freeAt += buffer.duration;
    this.#playing.add(source);
  }
}
