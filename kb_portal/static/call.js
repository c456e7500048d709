// One voice or video call: a SIP phone in the page that INVITEs the contact's own address.

import { post } from "./api.js";
import { offerAnew } from "./reoffer.js";

const CONNECT_MS = 10000;
// Candidates of the page's own machine come at once; a silent interface must not hold the call back.
const GATHER_MS = 600;

// What the server says in its BYE (RFC 3326) when the contact's address was called by somebody newer.
export const CALLED_AGAIN = "called again";

export class NoMedia extends Error {}

let library = null;

function loadJsSIP(address) {
  library ??= new Promise((resolve, reject) => {
    if (window.JsSIP) return resolve(window.JsSIP);
    const script = document.createElement("script");
    script.src = address;
    script.onload = () => {
      window.JsSIP.debug.disable();
      resolve(window.JsSIP);
    };
    script.onerror = () => {
      library = null;
      reject(new Error("The phone of this page could not be loaded."));
    };
    document.head.append(script);
  });
  return library;
}

const CAMERA = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30, max: 30 } };

// The camera and the microphone. Throws NoMedia with words for the customer.
export async function openMedia(video, secureUrl) {
  if (!canLend()) {
    const where = secureUrl ? " Open this page at its secure address, or choose chat." : " Please choose chat.";
    throw new NoMedia(`Over this connection your browser does not lend its ${video ? "camera or microphone" : "microphone"}.${where}`);
  }
  try {
    return await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: true, noiseSuppression: true },
      video: video && CAMERA,
    });
  } catch (error) {
    throw new NoMedia(whyNoMedia(error.name, video));
  }
}

// The camera alone, for a call that goes on. Throws NoMedia with words for the customer.
export async function openCamera() {
  const goOn = " Your call goes on without a picture.";
  if (!canLend()) throw new NoMedia(`Over this connection your browser does not lend its camera.${goOn}`);
  try {
    const [track] = (await navigator.mediaDevices.getUserMedia({ video: CAMERA })).getVideoTracks();
    return track;
  } catch ({ name }) {
    if (name === "NotAllowedError" || name === "SecurityError")
      throw new NoMedia(`Your browser was not allowed to use the camera. Allow it by the symbol beside the address, then try again.${goOn}`);
    if (name === "NotFoundError" || name === "OverconstrainedError") throw new NoMedia(`We found no camera.${goOn}`);
    if (name === "NotReadableError") throw new NoMedia(`Another program is using your camera. Close it, then try again.${goOn}`);
    throw new NoMedia(`Your camera could not be started.${goOn}`);
  }
}

const canLend = () => window.isSecureContext && Boolean(navigator.mediaDevices?.getUserMedia);

function whyNoMedia(name, video) {
  const what = video ? "camera or microphone" : "microphone";
  if (name === "NotAllowedError" || name === "SecurityError")
    return `Your browser was not allowed to use the ${what}. Allow it by the symbol beside the address, then try again.`;
  if (name === "NotFoundError" || name === "OverconstrainedError")
    return video ? "We found no camera. A voice call or a chat works without one." : "We found no microphone. A chat works without one.";
  if (name === "NotReadableError") return `Another program is using your ${what}. Close it, then try again.`;
  return `Your ${what} could not be started.`;
}

export class Call {
  // told: {joined(), remote(stream), line(isUp), pictures(), closed(reason)}. pictures: what `shows` and `sees` tell may
  // have changed. closed comes once, whoever ended the call.
  constructor(stream, told) {
    this.stream = stream;
    this.told = told;
    this.session = null;
    this.ua = null;
    this.over = false;
    this.changing = false; // pictures are being added, or dropped
    this.offering = false; // an offer of ours is out for it
  }

  async start(uri, libraryAddress) {
    const [JsSIP, credentials] = await Promise.all([loadJsSIP(libraryAddress), post("/api/sip-credentials")]);
    if (this.over) return;
    const ua = new JsSIP.UA({
      sockets: [new JsSIP.WebSocketInterface(credentials.ws)],
      uri: credentials.uri,
      authorization_user: credentials.username,
      password: credentials.password,
      realm: credentials.realm,
      register: false,
      session_timers: false,
      user_agent: "Warmline portal (JsSIP)",
      connection_recovery_min_interval: 1,
      connection_recovery_max_interval: 8,
    });
    this.ua = ua;
    await this.#connected(ua);
    if (this.over) return;
    this.session = ua.call(uri, {
      mediaStream: this.stream,
      mediaConstraints: { audio: true, video: this.stream.getVideoTracks().length > 0 },
      pcConfig: { iceServers: [] },
      eventHandlers: this.#handlers(),
    });
    if (this.session.connection) this.#listen(this.session.connection);
  }

  #connected(ua) {
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error("The phone line of this page did not connect.")), CONNECT_MS);
      ua.once("connected", () => {
        clearTimeout(late);
        resolve();
      });
      ua.start();
    });
  }

  #handlers() {
    let gathering = null;
    return {
      peerconnection: ({ peerconnection }) => this.#listen(peerconnection),
      icecandidate: ({ ready }) => {
        gathering ??= setTimeout(ready, GATHER_MS);
      },
      // RFC 3261 s14.2: one offer at a time.
      reinvite: ({ reject }) => this.offering && reject({ status_code: 491 }),
      accepted: () => this.told.joined(),
      failed: ({ cause }) => this.#close(cause),
      ended: ({ cause, message }) => {
        const said = message?.getHeader?.("Reason") ?? "";
        this.#close(said.includes(CALLED_AGAIN) ? CALLED_AGAIN : cause);
      },
    };
  }

  #listen(connection) {
    if (this.connection === connection) return;
    this.connection = connection;
    // Music is the first thing that comes, before any agent: it must be heard at once.
    let remote = new MediaStream();
    connection.addEventListener("track", ({ track }) => {
      for (const old of remote.getTracks()) if (old.kind === track.kind) remote.removeTrack(old);
      remote.addTrack(track);
      this.told.remote(remote);
      track.addEventListener("ended", () => {
        if (this.over || !remote.getTracks().includes(track)) return;
        // A picture that is over would stand still in its stream for ever: what is left gets one of its own.
        remote = new MediaStream(remote.getTracks().filter((other) => other !== track));
        this.told.remote(remote);
      });
    });
    connection.addEventListener("signalingstatechange", () => {
      if (connection.signalingState === "stable") this.#agreed();
    });
    connection.addEventListener("connectionstatechange", () => {
      if (connection.connectionState === "failed") this.hangup("Connection lost");
      else this.told.line(connection.connectionState !== "disconnected");
    });
  }

  // The other side has pictures in the call no more, or ours are refused: the camera is not left on for nobody.
  #agreed() {
    if (this.over || this.changing) return;
    if (this.session?.isEstablished() && !this.shows) this.#closeCamera();
    this.told.pictures();
  }

  #closeCamera() {
    for (const track of this.stream.getVideoTracks()) {
      track.stop();
      this.stream.removeTrack(track);
    }
  }

  #pictureLines() {
    const lines = this.connection?.getTransceivers() ?? [];
    const isOver = (line) => line.direction === "stopped" || line.currentDirection === "stopped";
    return lines.filter((line) => line.receiver.track.kind === "video" && !isOver(line));
  }

  // Whether our camera's picture goes out.
  get shows() {
    return this.#pictureLines().some(({ sender, currentDirection }) => sender.track && /^send/.test(currentDirection));
  }

  // Whether there is room for pictures in the call, the other side's or ours.
  get hasPictures() {
    return this.#pictureLines().some(({ currentDirection }) => currentDirection && currentDirection !== "inactive");
  }

  // The camera's picture joins the call. Throws Refused; the call goes on as it was then, and the camera is off.
  async addPicture(track) {
    this.changing = true;
    const sender = this.connection.addTrack(track, this.stream);
    this.stream.addTrack(track);
    try {
      await this.#offer();
    } catch (error) {
      // Not stopped: Chromium would offer what is stopped before it was ever agreed on.
      if (!this.over) this.connection.removeTrack(sender);
      this.#closeCamera();
      throw error;
    } finally {
      this.#changed();
    }
  }

  // A call of sound again, for both. Throws Refused where the other side did not hear of it: the camera is off all the same.
  async dropPictures() {
    this.changing = true;
    for (const line of this.#pictureLines()) line.stop();
    this.#closeCamera();
    try {
      await this.#offer();
    } finally {
      this.#changed();
    }
  }

  #offer() {
    return offerAnew(this.session, this.ua.contact.toString({ outbound: true }), {
      isOver: () => this.over,
      isOut: (isOut) => (this.offering = isOut),
    });
  }

  #changed() {
    this.changing = false;
    this.#agreed();
  }

  #off(kind) {
    const tracks = this.stream.getTracks().filter((track) => track.kind === kind);
    return tracks.length > 0 && tracks.every((track) => !track.enabled);
  }

  toggle(kind) {
    const off = this.#off(kind);
    for (const track of this.stream.getTracks()) if (track.kind === kind) track.enabled = off;
    return !off;
  }

  hangup(reason = "Hung up") {
    try {
      if (this.session && !this.session.isEnded()) this.session.terminate();
    } catch {
      // JsSIP throws when the call ended in the same moment: then there is nothing left to end.
    }
    this.#close(reason);
  }

  #close(reason) {
    if (this.over) return;
    this.over = true;
    // The BYE must leave before its socket closes.
    setTimeout(() => this.ua?.stop(), 500);
    this.told.closed(reason);
  }
}
