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
// Closed by the network or for a restart: worth trying again without being told so.
const RETRY_CLOSE_CODES = [1001, 1005, 1006, 1012, 1013];
// What is kept for a connection that is away: three minutes of chunks.
const MAX_KEPT = 720;

/** The MIME type that this browser records best; undefined if it can record none that is understood. */
export function recorderType() {
  return globalThis.MediaRecorder && RECORDER_TYPES.find((type) => MediaRecorder.isTypeSupported(type));
}

/**
 * One connection to a server, one session at a time.
 *
 * What is sent before the session has started, or while the connection is lost, is kept and sent
 * afterwards, in order. A lost connection is dialled again and its session resumed: chunks that the
 * server has not acknowledged are sent again under their numbers, messages that were missed come again.
 *
 * Events:
 *   message  detail = a message of the server, as it came
 *   state    `state` has changed
 */
export class LiveClient extends EventTarget {
  #url;
  #socket = null;
  #session = null; // what is known of the wanted session; null: none is wanted
  #order = Promise.resolve();
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
    return this.#session !== null;
  }

  /** Dials now, if there is no connection. */
  connect() {
    if (this.#socket) return;
    clearTimeout(this.#timer);
    this.#last = {};
    this.#socket = new WebSocket(this.#url);
    this.#socket.onopen = () => this.#send({type: "hello", version: 1});
    this.#socket.onmessage = ({data}) => this.#receive(JSON.parse(data));
    this.#socket.onclose = ({code}) => this.#lost(code);
    this.#enter("connecting");
  }

  /** Gives a key to a server that wants one; `apiKey` is also used for every later connection. */
  authenticate(apiKey) {
    this.apiKey = apiKey;
    if (this.state === "open") this.#send({type: "auth", token: apiKey});
    else this.connect();
  }

  /** Starts a session with the fields of `start_session`; none of them is needed. */
  start(options = {}) {
    this.#session = {
      options: {format: recorderType(), ...options},
      startTime: "", // tells one conversation from the next under the same id
      token: "",
      lastSeq: 0,
      nextChunk: 0,
      kept: [], // in order: what has not been sent, and chunks that have not been acknowledged
      attached: false,
    };
    if (this.state === "open") this.#attach();
    else this.connect();
  }

  /** Sends the next bytes of the recording. @param {Blob} chunk */
  sendAudio(chunk) {
    this.#keep(async (session) => {
      const audio = await base64(chunk);
      return {type: "audio_chunk", audio_data: audio, seq: session.nextChunk++};
    });
  }

  /** Sends a typed turn. */
  sendText(text) {
    this.#keep(() => ({type: "text", text}));
  }

  /** Says that the utterance is over: the server answers it now. */
  flush() {
    this.#keep(() => ({type: "flush"}));
  }

  /** Ends the session; its last texts and `session_ended` still come. */
  end() {
    if (this.#session?.attached) this.#send({type: "end_session"});
    this.#session = null;
  }

  #send(message) {
    this.#socket.send(JSON.stringify(message));
  }

  /** `make` gives the message, perhaps later; the order of the calls holds. Without a session nothing is sent. */
  #keep(make) {
    const session = this.#session;
    if (!session) return;
    this.#order = this.#order.then(async () => {
      session.kept.push(await make(session));
      if (session.kept.length > MAX_KEPT) session.kept.shift();
      if (session.attached && session === this.#session) this.#sendKept(session.kept.slice(-1));
    });
  }

  #sendKept(messages) {
    messages.forEach((message) => this.#send(message));
    this.#session.kept = this.#session.kept.filter(({type}) => type === "audio_chunk");
  }

  #attach() {
    const {options, token, lastSeq} = this.#session;
    this.#send(token
      ? {type: "resume", session_id: options.session_id, resume_token: token, last_seq: lastSeq}
      : {type: "start_session", ...options});
  }

  #attached({session_id, data}) {
    const session = this.#session;
    if (!session) return;
    if (session.startTime !== data.startTime) {
      session.nextChunk = 0;
      session.lastSeq = 0;
      session.kept.forEach((message) => {
        if (message.type === "audio_chunk") message.seq = session.nextChunk++;
      });
    }
    session.startTime = data.startTime;
    session.options.session_id = session_id;
    session.token = data.resumeToken ?? "";
    session.attached = true;
    this.#sendKept(session.kept);
  }

  #receive(message) {
    const session = this.#session;
    this.#last = message;
    if (session?.attached && message.seq) session.lastSeq = message.seq;
    switch (message.type) {
      case "connected":
        this.#attempt = 0;
        this.#enter("open");
        if (this.apiKey) this.#send({type: "auth", token: this.apiKey});
        else if (session && !message.data.authRequired) this.#attach();
        break;
      case "auth_success":
        if (session) this.#attach();
        break;
      case "auth_failed":
        this.apiKey = "";
        break;
      case "session_started":
      case "resumed":
        this.#attached(message);
        break;
      case "audio_ack":
        if (session) session.kept = session.kept.filter(({seq}) => !(seq <= message.data.seq));
        break;
      case "session_ended":
      case "session_expired":
      case "inactivity_timeout":
        if (message.session_id === session?.options.session_id) this.#session = null;
        break;
      case "error":
        if (session?.token && !session.attached && message.code === "resume_refused") {
          session.token = "";
          this.#attach(); // the server has begun the session anew, or knows it no more
          return;
        }
        if (session && !session.attached) this.#session = null;
        break;
    }
    this.dispatchEvent(new CustomEvent("message", {detail: message}));
  }

  #lost(code) {
    this.#socket = null;
    if (this.#session) this.#session.attached = false;
    if (this.#last.type === "auth_failed" && this.apiKey) {
      this.connect(); // another key was given before the server had closed
    } else if (RETRY_CLOSE_CODES.includes(code) || this.#last.retryable) {
      const delay = RETRY_MS[Math.min(this.#attempt++, RETRY_MS.length - 1)];
      this.#timer = setTimeout(() => this.connect(), Math.max(delay, this.#last.retry_after_ms ?? 0));
      this.#enter("waiting");
    } else {
      this.#session = null;
      this.#enter("closed");
    }
  }

  #enter(state) {
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }
}

function base64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
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

  /** Goes on with a new recording, which begins with a header of its own. */
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
