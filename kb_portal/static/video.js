// Pictures that join a call of voice while it goes on, and leave it again; or that come back into a video call.

import { openCamera } from "./call.js";
import * as view from "./dock.js";
import { Refused } from "./reoffer.js";
import { videoEnded, videoRefused } from "./words.js";

const ASKS = "Your browser now asks whether this page may use your camera. Please choose Allow.";
// The server takes a picture at once and then asks the phone: what is dropped so soon was refused.
const REFUSED_WITHIN_MS = 8000;

export class Video {
  // page: {talk(): {call, contact}, both null when there is none; present(); words(error)}
  constructor(page) {
    this.page = page;
    this.asking = ""; // what is said while the browser asks for the camera
    this.showedAt = null; // since when our picture goes out
  }

  begin() {
    this.showedAt = null;
    this.show();
  }

  // What the call has of pictures now is shown, and what became of ours is said.
  show() {
    const { call, contact } = this.page.talk();
    if (!call) return;
    const { shows, hasPictures, changing } = call;
    if (!changing) {
      if (this.showedAt !== null && !shows) this.#gone(contact);
      if (!shows) this.showedAt = null;
      else this.showedAt ??= Date.now();
    }
    view.local(call.stream);
    view.picturesOf({ shows, hasPictures, changing: changing || Boolean(this.asking) });
  }

  #gone(contact) {
    const soon = Date.now() - this.showedAt < REFUSED_WITHIN_MS;
    this.#say(soon ? videoRefused(contact) : videoEnded(contact));
  }

  #say(text) {
    view.trouble(text, [["All right", () => view.trouble(null)]]);
  }

  // Adds our picture to the call, or makes it one of voice again.
  async press() {
    const { call } = this.page.talk();
    const same = () => this.page.talk().call === call && !call.over;
    if (!call || call.changing || this.asking) return;
    view.trouble(null);
    try {
      if (call.shows) {
        this.showedAt = null;
        await call.dropPictures();
      } else {
        const camera = await this.#camera();
        if (same()) await call.addPicture(camera);
        else camera.stop();
      }
    } catch (error) {
      if (same()) this.#say(error instanceof Refused ? videoRefused(this.page.talk().contact) : this.page.words(error));
    } finally {
      if (same()) {
        this.page.present();
        this.show();
      }
    }
  }

  async #camera() {
    this.asking = ASKS;
    this.page.present();
    this.show();
    try {
      return await openCamera();
    } finally {
      this.asking = "";
      if (this.page.talk().call) this.page.present();
    }
  }
}
